"""`python -m kubernetes`: writes the manifests that are made from other files; --check says which differ."""

import sys
from pathlib import Path
from typing import Any

import yaml

from kubernetes import monitoring, stack

HERE = Path(__file__).parent
HEADER = "# Written by `make manifests` from {}.\n"
STACK = "compose.yaml: Jaeger, Prometheus, Grafana and all else beside the pair"
FILES = "compose.yaml: `kubectl apply --server-side -k .` is the stack in a cluster on this machine"


def files() -> dict[Path, str]:
    """The files that there should be, with their text."""
    production = HERE / "production"
    return {
        stack.ROOT / "kustomization.yaml": HEADER.format(FILES) + _yaml([_kustomization()]),
        HERE / "local" / "stack.yaml": HEADER.format(STACK) + _yaml(stack.manifests()),
        HERE / "local" / "settings.env": HEADER.format("compose.yaml") + _env(stack.settings()),
        production / "rules.yaml": HEADER.format("alerts.yml") + _yaml([monitoring.rules()]),
        production / "monitors.yaml": HEADER.format("prometheus.yml") + _yaml([monitoring.monitor()]),
        **{production / "dashboards" / name: text for name, text in monitoring.dashboards().items()},
    }


def _kustomization() -> dict[str, Any]:
    """At the root, as kustomize reads files below its own folder only."""
    mounted = {name: stack.files(part).values() for name, part in stack.parts().items()}
    maps = [
        {"name": name, "files": [str(path.relative_to(stack.ROOT)) for path in paths]}
        for name, paths in mounted.items()
        if paths
    ]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "bookshop",
        "resources": ["kubernetes/local"],
        "configMapGenerator": maps,
    }


def _yaml(documents: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, width=110)


def _env(variables: dict[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in variables.items())


def main() -> None:
    """Write them, or check them."""
    different = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if sys.argv[1:] == ["--check"]:
        if different:
            names = ", ".join(path.name for path in different)
            sys.exit(
                f"{names}: not what compose.yaml, prometheus.yml and alerts.yml say; run `make manifests`"
            )
    else:
        for path in different:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files()[path])


if __name__ == "__main__":
    main()
