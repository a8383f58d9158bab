"""The parts of compose.yaml beside the pair, as Kubernetes has them: for a cluster on this machine."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAIR = ("marketplace", "recommendations")  # their manifests are written by hand
ENTRY = "entry"  # `kubectl port-forward` does what it does
ELSEWHERE = (*PAIR, ENTRY)
USER = 10001
VARIABLE = r"\$\$|\$\{\w+(?::(?P<sign>[-+])(?P<word>[^}]*))?\}"
NAME = "app.kubernetes.io/name"


def services() -> dict[str, Any]:
    """The services of compose.yaml, each variable with its default."""
    text = re.sub(VARIABLE, _default, (ROOT / "compose.yaml").read_text())
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


def _default(found: re.Match[str]) -> str:
    """What compose makes of `$$`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}` where NAME is not set."""
    if found[0] == "$$":
        return "$"
    return found["word"].replace("$$", "$") if found["sign"] == "-" else ""


def parts() -> dict[str, Any]:
    """Those that a cluster gets from here: what starts without a profile."""
    return {
        name: service
        for name, service in services().items()
        if name not in ELSEWHERE and "profiles" not in service
    }


def settings() -> dict[str, str]:
    """The variables of the pair, but those that are empty by default."""
    environments = [services()[name]["environment"] for name in PAIR]
    return {key: str(value) for each in environments for key, value in each.items() if value is not None}


def files(service: dict[str, Any]) -> dict[str, Path]:
    """The files that are mounted into a service, by where it has them."""
    mounted: dict[str, Path] = {}
    for volume in service.get("volumes", ()):
        source, target = volume.split(":")[:2]
        path = ROOT / source
        if path.is_dir():
            mounted |= {f"{target}/{file.relative_to(path)}": file for file in sorted(path.rglob("*.*"))}
        elif source.startswith("./"):
            mounted[target] = path
    return mounted


def manifests() -> list[dict[str, Any]]:
    """A Deployment and a Service for each part."""
    return [
        made
        for name, service in parts().items()
        for made in (_deployment(name, service), _service(name, service))
    ]


def _deployment(name: str, service: dict[str, Any]) -> dict[str, Any]:
    labels = {NAME: name, "app.kubernetes.io/component": "stack"}
    folders = _folders(service)
    volumes = [{"name": folder, "emptyDir": {}} for folder in folders]
    if files(service):
        volumes.append({"name": "files", "configMap": {"name": name}})
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(name, service)],
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {NAME: name}},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def _container(name: str, service: dict[str, Any]) -> dict[str, Any]:
    memory = str(service["mem_limit"]).upper() + "i"
    environment = {
        key: value
        for key, value in (service.get("environment") or {}).items()
        if not str(value).startswith(f"{ENTRY}:")
    }
    mounts = [{"name": folder, "mountPath": path} for folder, path in _folders(service).items()]
    mounts += [
        {"name": "files", "mountPath": target, "subPath": file.name}
        for target, file in files(service).items()
    ]
    optional = {
        "command": service.get("entrypoint"),
        "args": service.get("command"),
        "ports": [{"containerPort": port} for port in _ports(service)],
        "env": [
            {"name": key, "value": "" if value is None else str(value)} for key, value in environment.items()
        ],
        "readinessProbe": _probe(service.get("healthcheck")),
    }
    return {
        "name": name,
        "image": service["image"],
        "imagePullPolicy": "IfNotPresent",
        **{key: value for key, value in optional.items() if value},
        "resources": {
            "requests": {"cpu": "50m", "memory": memory},
            "limits": {"cpu": f"{service['cpus'] * 1000:.0f}m", "memory": memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _service(name: str, service: dict[str, Any]) -> dict[str, Any]:
    """Headless, so that its name leads to each port of it, as in compose."""
    ports = [{"name": f"port-{port}", "port": port} for port in _ports(service)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {NAME: name}},
        "spec": {"clusterIP": "None", "selector": {NAME: name}} | ({"ports": ports} if ports else {}),
    }


def _ports(service: dict[str, Any]) -> list[int]:
    return [int(published.rpartition(":")[2]) for published in service.get("ports", ())]


def _folders(service: dict[str, Any]) -> dict[str, str]:
    """What it may write to: the name of each volume, and where it is."""
    named = (volume.split(":")[:2] for volume in service.get("volumes", ()) if not volume.startswith("./"))
    return dict(named) | {path.strip("/").replace("/", "-"): path for path in service.get("tmpfs", ())}


def _probe(check: dict[str, Any] | None) -> dict[str, Any] | None:
    """The command of a health check; load's is in its image, and nothing is sent to load."""
    if check is None:
        return None
    kind, *words = check["test"]
    return {
        "exec": {"command": ["sh", "-c", *words] if kind == "CMD-SHELL" else words},
        "periodSeconds": int(check["interval"].removesuffix("s")),
        "timeoutSeconds": int(check["timeout"].removesuffix("s")),
    }
