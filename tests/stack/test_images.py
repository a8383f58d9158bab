"""The images that are published: they are the same whoever builds them, and their list of parts has all of it."""

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.stack.cluster import ROOT, tool
from tests.stack.engine import docker, needs_engine
from tools import sbom

AT = "2025-11-26T00:00:00Z"
BUILD = ("build", "--quiet", "--target", "recommendations", str(ROOT))
SUPPLY = ROOT / "var" / "supply"


def described(image: str) -> Any:
    """What the engine knows of an image."""
    (found,) = json.loads(docker("image", "inspect", image))
    return found


@needs_engine
def test_two_builds_give_the_same_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Built again from nothing on the same base, an image has the same bytes in the same layers, and runs the same.

    Where the engine takes SOURCE_DATE_EPOCH, it is the same image.
    """
    monkeypatch.setenv("SOURCE_DATE_EPOCH", f"{datetime.fromisoformat(AT).timestamp():.0f}")
    first = docker(*BUILD, timeout_s=600).strip()
    second = docker(*BUILD, "--no-cache", timeout_s=600).strip()
    assert described(first)["RootFS"] == described(second)["RootFS"]
    assert described(first)["Config"] == described(second)["Config"]
    assert first == second or described(first)["Created"] != AT
    if first != second:
        docker("image", "rm", second)


def names(listed: str, kind: str) -> set[str]:
    """Of the packages of one kind in a list of parts, each with its version."""
    components = json.loads(listed)["components"]
    found = (each for each in components if each.get("purl", "").startswith(f"pkg:{kind}/"))
    return {f"{canonicalize_name(each['name'])} {each['version']}" for each in found}


@needs_engine
def test_all_packages_of_an_image_are_in_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's and Python's are those that dpkg and Python name in the image; made again, the list is the same."""
    monkeypatch.setenv("PATH", f"{Path(tool('syft')).parent}:{os.environ['PATH']}")
    listed = sbom.of_image("recommendations")
    image = docker(*BUILD, timeout_s=600).strip()

    def within(*command: str) -> set[str]:
        run = ("run", "--rm", "--network=none", "--entrypoint", command[0], image, *command[1:])
        pairs = (line.split() for line in docker(*run).splitlines())
        return {f"{canonicalize_name(name)} {version}" for name, version in pairs}

    assert names(listed, "deb") == within("dpkg-query", "--show", "--showformat=${Package} ${Version}\n")
    code = "from importlib.metadata import distributions as d; [print(x.name, x.version) for x in d()]"
    assert within("/venv/bin/python", "-c", code) <= names(listed, "pypi")
    assert sbom.of_image("recommendations") == listed


@pytest.mark.skipif(not (SUPPLY / ".installed").exists(), reason="needs cyclonedx-bom; make sbom installs it")
def test_what_the_package_needs_is_in_its_list() -> None:
    """Its list has what it is installed with, and nothing that the services alone need."""
    command = [
        str(SUPPLY / "tools" / "bin" / "python"),
        "-c",
        "from tools import sbom; print(sbom.of_package())",
    ]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    found = {name.partition(" ")[0] for name in names(done.stdout, "pypi")}
    assert {"grpcio", "opentelemetry-sdk", "prometheus-client", "flask", "gunicorn"} <= found
    assert not {"sqlalchemy", "alembic", "psycopg", "pip"} & found
