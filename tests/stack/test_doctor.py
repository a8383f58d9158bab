"""The doctor, asked about real services, a real receiver and a real Prometheus, each well or broken."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple

import pytest

from observability.testing import eventually
from tests.e2e.processes import ROOT, Pair, Receiver, free_ports, get, pair
from tests.stack.scraper import PROGRAM, Prometheus
from tools.certs import VARIABLES, Authority
from tools.doctor.parts import skew

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack")


class Stack(NamedTuple):
    """What the doctor is asked about, and the words with which it is asked."""

    pair: Pair
    receiver: Receiver
    prometheus: Prometheus
    directory: Path
    variables: dict[str, str]

    def ask(self, **variables: str) -> tuple[int, dict[str, list[str]]]:
        """The exit code, and the findings by state: each a line, with what to do."""
        done = subprocess.run(
            [sys.executable, "-m", "tools.doctor", "--patience", "3"],
            cwd=self.directory,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | self.variables | variables,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.stderr == ""
        found: dict[str, list[str]] = {"ok": [], "FAIL": [], "then": [], "--": []}
        for line in re.split(r"\n(?! )", done.stdout.strip())[:-1]:
            state, words = line.split(maxsplit=1)
            found[state].append(" ".join(words.split()))
        assert all(" do: " in line for line in found["FAIL"])
        return done.returncode, found


Start = Callable[..., Stack]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the stack with more variables for both services, and stops what is left of it."""
    with ExitStack() as running:
        yield lambda **variables: _started(running, tmp_path, **variables)


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that tests leave as it is."""
    with ExitStack() as running:
        yield _started(running, tmp_path_factory.mktemp("well"))


def _started(running: ExitStack, directory: Path, **variables: str) -> Stack:
    (directory / "var").symlink_to(directory)
    both, receiver = running.enter_context(pair(directory, **variables))
    prometheus = Prometheus(directory, both.metrics)
    running.callback(prometheus.close)
    eventually(lambda: len(prometheus.query("up")) == 2, 30)
    return Stack(both, receiver, prometheus, directory, _addresses(both, receiver, prometheus) | variables)


def _addresses(both: Pair, receiver: Receiver, prometheus: Prometheus) -> dict[str, str]:
    return {
        "MARKETPLACE_PORT": both.url.rpartition(":")[2],
        "MARKETPLACE_METRICS_PORT": str(both.metrics["marketplace"]),
        "RECOMMENDATIONS_PORT": str(both.grpc),
        "RECOMMENDATIONS_METRICS_PORT": str(both.metrics["recommendations"]),
        "PROMETHEUS_PORT": prometheus.url.rpartition(":")[2],
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "JAEGER_UI_PORT": str(free_ports(1)[0]),
        "TRACES_PORT": "25001",
    }


def failures(found: dict[str, list[str]], state: str = "FAIL") -> set[str]:
    return {line.split()[0] for line in found[state]}


def test_all_is_well(well: Stack) -> None:
    """Nothing fails, and the page is followed to the metrics, the spans and both logs; the exit code is 0."""
    code, found = well.ask()
    assert (code, found["FAIL"]) == (0, [])
    for name in ("shop", "recommendations", "OTLP", "Prometheus", "clock", "page", "metrics", "sampling"):
        assert any(line.startswith(name) for line in found["ok"])
    assert any("make run shows it: http://127.0.0.1:25001/trace/" in line for line in found["--"])
    for name in ("scrape", "spans", "log"):
        assert sum(line.startswith(name) for line in found["ok"]) == 2


def test_recommendations_is_down(start: Start) -> None:
    """It alone fails; its scrape target, the page without recommendations, its spans and its log follow from that."""
    stack = start()
    stack.pair.recommendations.stop()
    eventually(lambda: stack.prometheus.query('up{job="recommendations"} == 0'), 30)
    code, found = stack.ask()
    assert code == 1
    assert failures(found) == {"recommendations"}
    assert failures(found, "then") == {"scrape", "page", "spans", "log"}
    assert all("follows from recommendations" in line for line in found["then"])
    assert "var/recommendations.log" in found["FAIL"][0]


def test_the_shop_is_down(start: Start) -> None:
    """It alone fails; its scrape target follows from that, and no page is asked for."""
    stack = start()
    stack.pair.marketplace.stop()
    eventually(lambda: stack.prometheus.query('up{job="marketplace"} == 0'), 30)
    code, found = stack.ask()
    assert (code, failures(found), failures(found, "then")) == (1, {"shop"}, {"scrape"})
    assert "make run" in found["FAIL"][0]
    assert any(line.startswith("page") for line in found["--"])


def test_nobody_takes_traces(start: Start) -> None:
    """The closed OTLP endpoint fails, and names the variable; both services' lost spans follow from that."""
    stack = start()
    stack.receiver.close()
    code, found = stack.ask()
    assert (code, failures(found), failures(found, "then")) == (1, {"OTLP"}, {"spans"})
    assert all("OTEL_EXPORTER_OTLP_ENDPOINT" in line for line in found["FAIL"])


def test_metrics_are_guarded(start: Start, tmp_path: Path) -> None:
    """A Prometheus without the token fails, and the line says what its jobs need; the doctor itself has it."""
    (tmp_path / "token").write_text("a-token-of-the-test\n")
    stack = start(METRICS_TOKEN_FILE=str(tmp_path / "token"))
    eventually(lambda: len(stack.prometheus.query("up == 0")) == 2, 30)
    code, found = stack.ask()
    assert (code, failures(found), failures(found, "then")) == (1, {"scrape"}, set())
    assert all("401 Unauthorized" in line and "METRICS_* are set" in line for line in found["FAIL"])
    assert any(line.startswith("metrics") for line in found["ok"])


def test_endpoints_without_a_scheme(well: Stack) -> None:
    """host:port, as gRPC's exporter takes it, is understood; the variable of traces alone wins, and is named."""
    address = well.receiver.endpoint.removeprefix("http://")
    assert well.ask(OTEL_EXPORTER_OTLP_ENDPOINT=address)[0] == 0
    closed = f"127.0.0.1:{free_ports(1)[0]}"
    code, found = well.ask(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=closed)
    assert (code, failures(found)) == (1, {"OTLP"})
    assert closed in found["FAIL"][0]
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in found["FAIL"][0]


def test_docker_may_not_be_asked(well: Stack, tmp_path: Path) -> None:
    """Where docker refuses, that is the first line, and what to do."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'permission denied while trying to connect to the API' >&2\nexit 1\n")
    docker.chmod(0o755)
    code, found = well.ask(PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (code, failures(found)) == (1, {"docker"})
    assert "usermod -aG docker" in found["FAIL"][0]


def test_mutual_tls(start: Start, tmp_path: Path) -> None:
    """It works with the pair's settings; without them, or with another CA in the shop, it says what to set."""
    Authority().write(tmp_path)
    files = {variable: tmp_path / file for variable, file in VARIABLES.items()}
    ca = files["RECOMMENDATIONS_CA_FILE"] = tmp_path / "shop" / "ca.pem"
    ca.parent.mkdir()
    ca.write_bytes(files["TLS_CLIENT_CA_FILE"].read_bytes())
    stack = start(**{variable: str(file) for variable, file in files.items()})
    assert stack.ask()[0] == 0
    code, found = stack.ask(
        RECOMMENDATIONS_CA_FILE="", RECOMMENDATIONS_CERT_FILE="", RECOMMENDATIONS_KEY_FILE=""
    )
    assert (code, failures(found)) == (1, {"recommendations"})
    assert "the TLS handshake fails: not_tls do: set RECOMMENDATIONS_CA_FILE" in found["FAIL"][0]

    ca.write_bytes(Authority().pem)
    stack.pair.marketplace.process.send_signal(signal.SIGHUP)
    remedy = "unknown_ca do: RECOMMENDATIONS_CA_FILE must hold the CA of TLS_CERT_FILE"
    code, found = stack.ask()  # which has the shop's settings
    assert (code, failures(found)) == (1, {"recommendations"})
    assert f"the TLS handshake fails: {remedy}" in found["FAIL"][0]
    assert "page" in failures(found, "then")
    code, found = stack.ask(RECOMMENDATIONS_CA_FILE=str(files["TLS_CLIENT_CA_FILE"]))
    assert code == 1
    assert any(f"marketplace refuses the other's certificate: {remedy}" in line for line in found["FAIL"])


def test_prometheus_is_down(well: Stack) -> None:
    """It alone fails: the page is followed by the services' own metrics."""
    code, found = well.ask(PROMETHEUS_PORT=str(free_ports(1)[0]))
    assert (code, failures(found)) == (1, {"Prometheus"})


def test_nothing_is_scraped(well: Stack, tmp_path: Path) -> None:
    """A Prometheus without targets fails for each service."""
    other = Prometheus(tmp_path, {})
    try:
        code, found = well.ask(PROMETHEUS_PORT=other.url.rpartition(":")[2])
    finally:
        other.close()
    assert (code, [line.split()[0] for line in found["FAIL"]]) == (1, ["scrape", "scrape"])
    assert all("scrape_configs in prometheus.yml" in line for line in found["FAIL"])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "set OTEL_TRACES_SAMPLER to parentbased_always_on"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_SDK_DISABLED": "true"}, "without OTEL_SDK_DISABLED"),
    ],
)
def test_there_are_no_traces(start: Start, variables: dict[str, str], said: str) -> None:
    """A sampler that is off, and a disabled SDK, fail as sampling, with the variable that does it."""
    code, found = start(**variables).ask()
    assert (code, failures(found)) == (1, {"sampling"})
    assert said in found["FAIL"][0]


def test_traces_are_not_exported(start: Start) -> None:
    """OTEL_TRACES_EXPORTER=none fails as spans of both services, and is named."""
    code, found = start(OTEL_TRACES_EXPORTER="none").ask()
    assert (code, failures(found)) == (1, {"spans"})
    assert all("OTEL_TRACES_EXPORTER=none" in line for line in found["FAIL"])


def test_a_page_fails(start: Start) -> None:
    """A shop that answers 500 fails as page."""
    (port,) = free_ports(1)
    stack = start(MARKETPLACE_FAULTS_PORT=str(port))
    command = [sys.executable, "-m", "tools.faults", "on", "page-errors", "1"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"MARKETPLACE_FAULTS_PORT": str(port)}, check=True)
    assert get(stack.pair.url)[0] == 500
    code, found = stack.ask()
    assert code == 1
    assert any(line.startswith("page the shop answered 500") for line in found["FAIL"])


@pytest.mark.parametrize(("off_s", "state"), [(0, "ok"), (4, "ok"), (60, "FAIL"), (-3600, "FAIL")])
def test_clocks(off_s: int, state: str) -> None:
    """A clock that is more than five seconds off fails, and it says by how much."""
    found = skew("Prometheus", formatdate(1e9 + off_s, usegmt=True), 1e9)
    assert found.state == state
    assert state == "ok" or f"{abs(off_s)} s" in found.words


def test_a_wrong_setting_is_a_line(tmp_path: Path) -> None:
    """The doctor's own settings are checked like any other."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.doctor"],
        cwd=ROOT,
        env=os.environ | {"GRAFANA_PORT": "x"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("GRAFANA_PORT must be a valid integer")
