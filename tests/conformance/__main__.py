"""`python -m tests.conformance`: run the cases on all stacks and write docs/conformance.md."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.recording import STACKS
from tests.conformance.report import document

PAGE = Path("docs/conformance.md")
PATIENCE_S = 600.0
PACKAGES = (
    "grpcio",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-grpc",
    "prometheus-client",
    "py-grpc-prometheus",
)


def main() -> int:
    """Write the page; 1 when ours breaks a promise, or a stack did not end."""
    with tempfile.TemporaryDirectory() as folder:
        records = {name: recorded(name, Path(folder) / "record.json") for name in STACKS}
    PAGE.parent.mkdir(exist_ok=True)
    page = document(records, versions())
    PAGE.write_text(page)
    sys.stdout.write(f"written: {PAGE}\n")
    return int("## Broken by ours\n\nNothing." not in page)


def recorded(name: str, path: Path) -> dict[str, Any]:
    """What a process of its own recorded of a stack."""
    sys.stdout.write(f"{name}\n")
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.recording", name, str(path)]
    quiet = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    subprocess.run(command, check=True, timeout=PATIENCE_S, stderr=subprocess.DEVNULL, env=quiet)
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def versions() -> str:
    """What was run."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {packages}."


if __name__ == "__main__":
    sys.exit(main())
