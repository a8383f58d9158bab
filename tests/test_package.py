"""The package installs as a distribution of its own, and works without the rest of this repository."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import DOCUMENTS, examples

ROOT = Path(__file__).parents[1]
NAME = "grpc-flask-observability"
OFFLINE = ("No matching distribution", "Failed to establish a new connection")
CONSUMER = """
from observability import AioErrorInterceptor, DeadlineInterceptor, ErrorInterceptor, ExtraLabel, Telemetry
from observability.call import Call
from observability.testing import MemoryTelemetry


def tier(call: Call) -> str:
    return call.peer


telemetry: Telemetry = MemoryTelemetry(extra_labels={"tier": ExtraLabel(frozenset({"free"}), tier)})
port: int = telemetry.serve_metrics(0)
done: bool = telemetry.force_flush(timeout_s=1)
"""
NO_FLASK = f"""
from observability import Telemetry
try:
    Telemetry("alone").instrument_flask(None)
except RuntimeError as error:
    assert "{NAME}[flask]" in str(error), error
else:
    raise SystemExit("no error")
"""

TESTED = """
import grpc
from concurrent.futures import ThreadPoolExecutor


def test_hello(telemetry):
    server = grpc.server(ThreadPoolExecutor(), interceptors=telemetry.server_interceptors())
    hello = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", {"Hello": hello}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary("/Greeter/Hello")(b"")
    server.stop(None).wait()
    telemetry.span("Greeter/Hello", status="OK")
"""


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, capture_output=True, check=False, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("pyproject.toml", "LICENSE", "docs", "observability"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        "dist",
        ".",
    )
    built = run(*pip, cwd=folder)
    assert built.returncode == 0, built.stderr
    (made,) = folder.glob("dist/*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel alone, and the dependencies that it declares."""
    folder = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", folder).returncode == 0
    install = (folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    installed = run(*install, "--constraint", constraints(folder), timeout=300)
    said = installed.stdout + installed.stderr
    if installed.returncode and any(words in said for words in OFFLINE):
        pytest.skip("no package index can be reached; with one, run pytest tests/test_package.py")
    assert installed.returncode == 0, installed.stderr
    return folder / "bin/python"


def constraints(folder: Path) -> Path:
    """The locked versions, without their hashes, which pip wants for all or none."""
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    path = folder / "constraints.txt"
    path.write_text(
        "\n".join(re.sub(r"\[.*?\]", "", line).rstrip(" \\") for line in lines if line[:1].isalpha())
    )
    return path


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    """At the top of site-packages there is nothing but the package, which says that it is typed."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"observability"}
    assert "observability/py.typed" in names
    assert wheel.name.startswith(NAME.replace("-", "_"))


@pytest.mark.parametrize("example", examples("observability.md"))
def test_the_examples_run(example: str, python: Path, tmp_path: Path) -> None:
    """The examples of its documentation run where nothing but the wheel is installed."""
    done = run(python, "-W", "error", "-c", example, cwd=tmp_path, env={"OTEL_TRACES_EXPORTER": "none"})
    assert done.returncode == 0, done.stderr


def test_flask_is_an_extra(python: Path, tmp_path: Path) -> None:
    """Without Flask, instrument_flask names the extra that brings it."""
    done = run(python, "-c", NO_FLASK, cwd=tmp_path, env={"OTEL_TRACES_EXPORTER": "none"})
    assert done.returncode == 0, done.stderr


def test_the_pytest_plugin(python: Path, tmp_path: Path) -> None:
    """Where the package is installed, tests have the fixture `telemetry`."""
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pytest")
    assert run(*pip, "--constraint", constraints(tmp_path), timeout=300).returncode == 0
    (tmp_path / "test_hello.py").write_text(TESTED)
    done = run(python, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", tmp_path, cwd=tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_consumer_is_typed(python: Path, tmp_path: Path) -> None:
    """A strictly typed project that uses the public names passes mypy."""
    (tmp_path / "consumer.py").write_text(CONSUMER)
    command = (
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        "--config-file=",
        "consumer.py",
    )
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_documents_name_it() -> None:
    """The name to install is the distribution's."""
    assert NAME in DOCUMENTS["observability.md"]
