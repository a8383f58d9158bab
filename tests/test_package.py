"""The package installs as its own distribution, and works without the rest of this repository."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import DOCUMENTS, examples
from tests.unit.observability.conftest import Http, http  # noqa: F401 (a fixture)

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[1]
NAME = "grpc-flask-observability"
OFFLINE = ("No matching distribution", "Failed to establish a new connection")
CONSUMER = """
from observability import AioErrorInterceptor, DeadlineInterceptor, ErrorInterceptor, ExtraLabel, Telemetry
from observability.call import Call
from observability.testing import MemoryTelemetry


def tier(call: Call) -> str:
    return call.peer


def see(call: Call, message: object) -> None:
    print(call.method.side, message)


def show(name: str, value: str) -> str:
    return value[:4]


telemetry: Telemetry = MemoryTelemetry(
    extra_labels={"tier": ExtraLabel(frozenset({"free"}), tier)},
    buckets=[1, 60],
    http_buckets=[1, 60],
    request_hook=see,
    response_hook=see,
    message_sizes=True,
    redact=show,
)
strict: Telemetry = Telemetry("strict", buckets=[1, 60], request_hook=see, response_hook=see, redact=show)
port: int = telemetry.serve_metrics(0)
done: bool = telemetry.force_flush(timeout_s=1)
"""
WITHOUT = {"OTEL_TRACES_EXPORTER": "none"}
CALL = """
from concurrent.futures import ThreadPoolExecutor
import grpc
from observability import Telemetry
telemetry = Telemetry("alone")
server = grpc.server(ThreadPoolExecutor(), interceptors=telemetry.server_interceptors())
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    assert channel.unary_unary("/a/b").future(b"").code() is grpc.StatusCode.UNIMPLEMENTED
server.stop(None).wait()
telemetry.shutdown()
"""
FLASK = """
from flask import Flask
from observability import Telemetry
app = Flask("shop")
app.add_url_rule("/", view_func=lambda: "hello")
with Telemetry("shop") as telemetry:
    telemetry.instrument_flask(app)
    app.test_client().get("/").close()
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

EXAMPLES = examples("docs/observability.md")
TESTED = next(example for example in EXAMPLES if "import pytest" in example.values[0])
ALONE = [example for example in EXAMPLES if not re.search("pytest|loguru", example.values[0])]


UNTRACKED = (".git", ".venv", "var", "*cache*", ".hypothesis", "build", "dist", "*.egg-info")


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, capture_output=True, check=False, **options)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy of the repository."""
    folder = tmp_path_factory.mktemp("package") / "copy"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*UNTRACKED))
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    built = run(sys.executable, "-c", build, cwd=folder)
    assert built.returncode == 0, built.stderr
    (made,) = folder.glob("dist/*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, built from the source distribution."""
    options = ("--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", sdist.parent)
    built = run(sys.executable, "-m", "pip", "wheel", *options, sdist)
    assert built.returncode == 0, built.stderr
    (made,) = sdist.parent.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel alone, and the dependencies that it declares."""
    return installed(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel, each extra, and what the examples need beside it."""
    extras = f"{wheel}[flask,gunicorn,http]"
    others = ("loguru", "pytest", "types-grpcio", "types-protobuf")
    return installed(tmp_path_factory.mktemp("complete"), extras, *others)


def installed(folder: Path, *what: str | Path) -> Path:
    """The Python of a new environment with these distributions; skips where no index can be reached."""
    assert run(sys.executable, "-m", "venv", folder).returncode == 0
    install = (folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *what)
    done = run(*install, "--constraint", constraints(folder), timeout=300)
    said = done.stdout + done.stderr
    if done.returncode and any(words in said for words in OFFLINE):
        pytest.skip("no package index can be reached; with one, run pytest tests/test_package.py")
    assert done.returncode == 0, done.stderr
    return folder / "bin/python"


def constraints(folder: Path) -> Path:
    """The locked versions, without their hashes, which pip wants for all or none."""
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    path = folder / "constraints.txt"
    path.write_text(
        "\n".join(re.sub(r"\[.*?\]", "", line).rstrip(" \\") for line in lines if line[:1].isalpha())
    )
    return path


def test_the_source_distribution_holds_the_package_alone(sdist: Path) -> None:
    """Nothing of the services, the tools and the tests, and its README is the package's own."""
    with tarfile.open(sdist) as archive:
        paths = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    folders = {path.parts[0] for path in paths if len(path.parts) > 1}
    files = {str(path) for path in paths if len(path.parts) == 1 and str(path) not in folders}
    assert folders == {"observability", "docs", "grpc_flask_observability.egg-info"}
    assert files == {"LICENSE", "MANIFEST.in", "PKG-INFO", "pyproject.toml", "setup.cfg"}


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    """At the top of site-packages there is nothing but the package, which says that it is typed."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"observability"}
    assert "observability/py.typed" in names
    assert wheel.name.startswith(NAME.replace("-", "_"))


@pytest.mark.parametrize("example", ALONE)
def test_the_examples_run(example: str, python: Path, tmp_path: Path) -> None:
    """The examples of its documentation run where nothing but the wheel is installed."""
    done = run(python, "-W", "error", "-c", example, cwd=tmp_path, env=WITHOUT)
    assert done.returncode == 0, done.stderr


def test_flask_is_an_extra(python: Path, tmp_path: Path) -> None:
    """Without Flask, instrument_flask names the extra that brings it."""
    done = run(python, "-c", NO_FLASK, cwd=tmp_path, env=WITHOUT)
    assert done.returncode == 0, done.stderr


def test_http_is_an_extra(python: Path, tmp_path: Path) -> None:
    """Without OTLP over HTTP, the line of the error names the extra that brings it, and calls go on."""
    done = run(python, "-c", CALL, cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    assert done.returncode == 0, done.stderr
    assert "the extra `http`" in done.stderr


def test_gunicorn_is_an_extra(python: Path, complete: Path, tmp_path: Path) -> None:
    """Its hooks need nothing of gunicorn, and gunicorn takes them as its configuration."""
    done = run(python, "-c", "import observability.gunicorn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "shop.py").write_text("from flask import Flask\napp = Flask('shop')\n")
    check = ("-m", "gunicorn", "--check-config", "--config=python:observability.gunicorn", "shop:app")
    done = run(complete, *check, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_flask_comes_with_its_extra(complete: Path, tmp_path: Path) -> None:
    """With it, an application is observed."""
    done = run(complete, "-W", "error", "-c", FLASK, cwd=tmp_path, env=WITHOUT)
    assert done.returncode == 0, done.stderr
    assert '"http.route": "/"' in done.stdout


def test_http_comes_with_its_extra(complete: Path, tmp_path: Path, http: Http) -> None:  # noqa: F811
    """With it, spans are delivered by OTLP over HTTP."""
    settings = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http.server_port}",
    }
    done = run(complete, "-W", "error", "-c", CALL, cwd=tmp_path, env=settings)
    assert done.returncode == 0, done.stderr
    assert http.names == ["_OTHER"]


def typed(python: Path, code: str, folder: Path) -> None:
    """Assert that the code passes mypy's strict checks in a project that has the environment of that Python."""
    (folder / "consumer.py").write_text(code)
    command = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", python)
    done = run(*command, "consumer.py", cwd=folder)
    assert done.returncode == 0, done.stdout


def test_the_pytest_plugin(python: Path, tmp_path: Path) -> None:
    """Where the package is installed, tests have the fixture `telemetry`."""
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pytest")
    assert run(*pip, "--constraint", constraints(tmp_path), timeout=300).returncode == 0
    (tmp_path / "test_hello.py").write_text(TESTED.values[0])
    done = run(python, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", tmp_path, cwd=tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_consumer_is_typed(python: Path, tmp_path: Path) -> None:
    """A strictly typed project that uses the public names passes mypy."""
    typed(python, CONSUMER, tmp_path)


@pytest.mark.parametrize("example", examples("README.md") + EXAMPLES)
def test_the_examples_are_typed(example: str, complete: Path, tmp_path: Path) -> None:
    """The examples of README and of the package's documentation do so, too, with the types of gRPC."""
    typed(complete, example, tmp_path)


def test_the_documents_name_it() -> None:
    """The name to install is the distribution's."""
    assert NAME in DOCUMENTS["docs/observability.md"]
