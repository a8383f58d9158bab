"""What checks the manifests: schemas, linters, and a real API server, as `make kubernetes-tools` builds them."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILT_BY = {
    "kubeconform": "make kubernetes-tools builds it",
    "kube-score": "make kubernetes-tools builds it",
    "kube-linter": "make kubernetes-tools builds it, where its module can be had",
    "kube-apiserver": "make kubernetes-tools ARGS=apiserver builds it",
    "otelcol": "make kubernetes-tools ARGS=collector builds it",
    "syft": "make sbom builds it",
}
BUILT = ROOT / "var" / "kubernetes"
FOLDERS = f"{BUILT / 'bin'}:{ROOT / 'var' / 'supply' / 'bin'}"


def tool(name: str) -> str:
    """A program on PATH or built by make; without it the test is skipped."""
    found = shutil.which(name) or shutil.which(name, path=FOLDERS)
    if found is None:
        pytest.skip(f"needs {name} on PATH; {BUILT_BY.get(name, 'with it there: make test-stack')}")
    return found
