"""The commands that README and docs show do what they are shown for."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from observability.testing import eventually
from services.faults.catalogue import FAULTS, VARIABLES
from tests.e2e.processes import ROOT, Pair, free_ports, get, pair
from tests.test_docs import DOCUMENTS, FENCED, blocks

PROGRAM = re.compile(r"(make|docker compose|docker stats|pip|python -m|curl|grep) ")
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
RUNBOOKS = [name for name in DOCUMENTS if name.startswith("docs/runbooks/")]
# Commands that other tests run, and where.
ELSEWHERE = {
    "kubectl": "tests/stack/test_kubernetes.py",
    "kind": "tests/stack/test_kubernetes.py",  # what it loads, not kind itself
    "pip install": "tests/test_package.py",
    "grep TRACE_ID": "test_readme_s_look_at_what_was_recorded",
    "curl": "test_readme_s_look_at_what_was_recorded",
    "PROMETHEUS_MULTIPROC_DIR": "test_the_gunicorn_command",
    "df": "test_the_looks_of_runbooks",
    "env RECOMMENDATIONS_CA_FILE": "tests/stack/test_compose.py",
}


def in_blocks(name: str) -> list[str]:
    """The commands in the blocks of a document, without comments."""
    lines = (line for block in blocks(name, "sh") for line in re.sub(r"\\\n *", "", block).splitlines())
    return [re.sub(r"\s+# .*", "", line) for line in lines]


def in_text(name: str) -> list[str]:
    """The commands in the sentences of a document."""
    quoted = re.findall(r"`([^`]+)`", FENCED.sub("", DOCUMENTS[name]))
    return [" ".join(words.split()) for words in quoted if PROGRAM.match(words)]


COMMANDS = sorted({command for name in DOCUMENTS for command in (*in_blocks(name), *in_text(name))})
MAKE = [command for command in COMMANDS if command.startswith("make ")]
MODULES = [command for command in COMMANDS if command.startswith("python -m ")]
COMPOSE = [command for command in COMMANDS if re.match(r"(FAULTS=1 )?docker ", command)]


def test_each_command_has_its_test() -> None:
    """It is one of those below, or of those that other tests run."""
    known = {*MAKE, *MODULES, *COMPOSE}
    assert [
        command for command in COMMANDS if command not in known and not command.startswith(tuple(ELSEWHERE))
    ] == []


@pytest.mark.parametrize("command", MAKE)
def test_the_targets_are_makes(command: str) -> None:
    """make knows what to do for it, and lists it in its help."""
    _, target, *arguments = shlex.split(command)
    words = ["make", "--dry-run", "--old-file=.venv/.installed", target, *arguments]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert f"make {target} " in shown or target == "help"


@pytest.mark.parametrize("command", MODULES)
def test_the_modules_are_there(command: str) -> None:
    """Python finds what it is asked to run."""
    module = command.split()[2]
    assert find_spec(module) or module == "services"  # CHANGELOG's, of before


@pytest.mark.parametrize("command", COMPOSE)
def test_the_containers_are_composes(command: str) -> None:
    """Each service that a command of compose names is one of the file's."""
    words = (
        re.sub(r"--profile \w+ |-s [A-Z]+ ", "", command.partition(" | ")[0])
        .removeprefix("FAULTS=1 ")
        .split()
    )
    arguments = [
        re.split("[=:]", word)[0] for word in words[3:] if not word.startswith("-") and not word.isdecimal()
    ]
    named = arguments[:1] if words[2] in {"exec", "run", "cp"} else arguments
    assert set(named) <= SERVICES.keys() | {"test"}


@dataclass
class Story:
    """The pair after each fault was on for a page or two, and with a receiver of traces that went away."""

    pair: Pair
    folder: Path
    failed: str

    def run(self, command: str) -> str:
        """What the command prints, with `docker compose logs` and `exec` of these processes."""
        shop, metrics = self.pair.url.removeprefix("http://127.0.0.1:"), self.pair.metrics
        for shown, real in (
            ("9101", metrics["marketplace"]),
            ("9102", metrics["recommendations"]),
            ("5000", shop),
        ):
            command = command.replace(f":{shown}", f":{real}")
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command.replace("TRACE_ID", self.failed)],
            cwd=self.folder,
            env=os.environ | {"PATH": path},
            text=True,
            capture_output=True,
            check=False,
        )
        return done.stdout


DOCKER = f"""#!{sys.executable}
import subprocess, sys
from pathlib import Path
words = sys.argv[3:]
if sys.argv[2] == "logs":
    for name in {{"marketplace", "recommendations"}}.intersection(words):
        for log in Path("var").glob(f"{{name}}*"):
            sys.stdout.write(log.read_text())
else:  # exec
    sys.exit(subprocess.call([sys.executable, *words[2:]]))
"""


FAILING = """
import grpc
from observability import Telemetry

with Telemetry("marketplace", exclude=lambda call: 1 / 0) as telemetry:
    telemetry.capture_logs()
    with grpc.insecure_channel("127.0.0.1:9") as channel:
        channel = grpc.intercept_channel(channel, *telemetry.client_interceptors())
        channel.unary_unary("/Greeter/Greet").future(b"", timeout=5).code()
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    (folder / "var").mkdir()
    (folder / "bin").mkdir()
    (folder / "bin/docker").write_text(DOCKER)
    (folder / "bin/docker").chmod(0o755)
    ports = dict(zip(VARIABLES.values(), map(str, free_ports(2)), strict=True))

    def faults(*words: str) -> None:
        command = [sys.executable, "-m", "tools.faults", *words]
        subprocess.run(command, cwd=ROOT, env=os.environ | ports, capture_output=True, check=True)

    with ExitStack() as running:
        shop, receiver = running.enter_context(pair(folder / "var", **ports))
        failed = shop.get("/?category=42")[2]["traceresponse"].split("-")[1]
        for name in [*sorted(FAULTS.keys() - {"crash", "errors", "stuck", "page-slow"}), "errors"]:
            faults("on", name, *(["1"] if FAULTS[name].share else []))
            for _ in range(
                12 if name == "errors" else 1
            ):  # as many as open the shop's circuit, which stops calls
                shop.get("/")
            faults("heal")
        receiver.close()
        shop.get("/")
        with (folder / "var/marketplace.other").open("wb") as log:
            subprocess.run([sys.executable, "-c", FAILING], cwd=ROOT, stdout=log, check=True)
        yield Story(shop, folder, failed)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_readme_s_look_at_what_was_recorded(story: Story) -> None:
    """The counters, the exemplars and the lines of a page that failed are found as README says."""
    looks = [command for command in in_text("README.md") if command.startswith(("curl", "grep"))]
    assert len(looks) == 3
    for look in looks:
        found = eventually(lambda look=look: story.run(look), 20)  # type: ignore[misc]
        assert "NOT_FOUND" in found or "trace_id=" in found


@pytest.mark.parametrize("name", RUNBOOKS)
def test_the_looks_of_runbooks(name: str, story: Story) -> None:
    """What a runbook lets its reader look for in the services is found while its fault is there."""
    for command in in_blocks(name):
        if re.search(r"compose (logs|exec) .*(marketplace|recommendations)|^df", command):
            assert eventually(lambda command=command: story.run(command), 30)  # type: ignore[misc]


APP = """
import atexit
from flask import Flask
from observability import Telemetry

app = Flask("shop")
app.add_url_rule("/", view_func=lambda: "hello")
telemetry = Telemetry("shop")
telemetry.instrument_flask(app)
atexit.register(telemetry.shutdown)
"""


def test_the_gunicorn_command(tmp_path: Path) -> None:
    """Several workers answer, and the master serves the metrics of all."""
    (command,) = [line for line in COMMANDS if "gunicorn" in line and "MULTIPROC" in line]
    (tmp_path / "shop.py").write_text(APP)
    port, metrics = map(str, free_ports(2))
    shell = f'gunicorn() {{ exec "{sys.executable}" -m gunicorn --bind 127.0.0.1:{port} --no-control-socket "$@"; }}'
    environ = {
        "OTEL_EXPORTER_PROMETHEUS_PORT": metrics,
        "OTEL_TRACES_EXPORTER": "none",
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "errors").open("wb") as errors:
        started = subprocess.Popen(
            ["bash", "-c", f"{shell}\n{command}"],
            cwd=tmp_path,
            env=os.environ | environ | {"TMPDIR": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        eventually(lambda: get(f"http://127.0.0.1:{port}/")[0] == 200, 30)
        eventually(lambda: 'http_route="/"' in get(f"http://localhost:{metrics}/metrics")[1], 30)
    finally:
        started.terminate()
        assert started.wait(30) == 0, (tmp_path / "errors").read_text()
