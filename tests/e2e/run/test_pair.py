import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from observability.testing import eventually
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.settings import ServiceSettings
from tests.e2e.processes import ROOT, free_ports
from tests.e2e.run.running import STOP_S, RunningPair, get
from tools.certs import VARIABLES, Authority
from tools.ports import Port
from tools.run.pair import prometheus_configuration, start_prometheus
from tools.scrape import Endpoint

Start = Callable[..., RunningPair]
METRICS = {"CERT": "recommendations.pem", "KEY": "recommendations.key", "CLIENT_CA": "ca.pem"}


def test_a_click_is_printed_as_one_trace_of_both_services(start: Start, ports: dict[str, str]) -> None:
    """The command serves the shop, prints the joined trace as plain lines, and on SIGTERM leaves nothing."""
    pair = start().wait_until_ready()
    status, _ = get(ports["MARKETPLACE_PORT"], "/")
    assert status == 200
    trace = (
        r"^marketplace +GET / .*\nmarketplace +Recommendations/.*\nrecommendations +Recommendations/.* OK "
    )
    eventually(lambda: re.search(trace, pair.out, re.MULTILINE), STOP_S)
    assert pair.end(signal.SIGTERM) == 0
    assert (pair.pids(), pair.err) == ([], "")
    assert "\x1b" not in pair.out
    assert f"http://127.0.0.1:{ports['MARKETPLACE_PORT']}\n" in pair.out


def test_mutual_tls(start: Start, ports: dict[str, str], tmp_path: Path) -> None:
    """With the certificates of `make certs`, the pair is ready, its pages are whole, and its probe knows that."""
    Authority().write(tmp_path / "certs")
    files = {variable: str(tmp_path / "certs" / file) for variable, file in VARIABLES.items()}
    start("--quiet", **files).wait_until_ready()
    assert len(re.findall(r"<li\b", get(ports["MARKETPLACE_PORT"], "/")[1])) == 3
    for given, code in ((files, 0), ({}, 1)):
        command = [sys.executable, "-I", str(ROOT / "services/recommendations/probe.py")]
        assert subprocess.run(command, env=os.environ | ports | given, check=False).returncode == code


def test_tls_on_one_side_is_a_line(start: Start, tmp_path: Path) -> None:
    """A pair whose shop could not call recommendations does not start."""
    Authority().write(tmp_path)
    files = {name: str(tmp_path / VARIABLES[name]) for name in ("TLS_CERT_FILE", "TLS_KEY_FILE")}
    pair = start(**files)
    assert pair.end() == 1
    assert pair.err == "TLS_CERT_FILE needs RECOMMENDATIONS_CA_FILE here: the shop calls over TLS\n"


def test_ctrl_c_stops_a_quiet_pair_that_printed_no_trace(start: Start, ports: dict[str, str]) -> None:
    """With --quiet there are the addresses and nothing else; SIGINT is a clean end too."""
    pair = start("--quiet").wait_until_ready()
    get(ports["MARKETPLACE_PORT"], "/")
    assert pair.end(signal.SIGINT) == 0
    assert (pair.pids(), pair.err) == ([], "")
    assert "\ntrace " not in pair.out


def test_a_stop_during_the_start_is_a_clean_end(start: Start) -> None:
    """A stop at once leaves no half of a pair behind."""
    pair = start()
    eventually((pair.directory / "var/marketplace.log").exists, STOP_S)
    assert pair.end(signal.SIGTERM) == 0
    assert (pair.pids(), pair.err) == ([], "")


def test_a_second_ctrl_c_kills_what_does_not_stop(start: Start) -> None:
    """A service that hangs does not keep the terminal."""
    pair = start().wait_until_ready()
    frozen = pair.pid_of("services.recommendations")
    os.kill(frozen, signal.SIGSTOP)
    eventually(lambda: "State:\tT" in Path(f"/proc/{frozen}/status").read_text(), STOP_S)
    pair.process.send_signal(signal.SIGINT)
    eventually(lambda: "Stopping" in pair.out, STOP_S)
    assert pair.end(signal.SIGINT) == 0
    assert "recommendations had not stopped, and was killed\n" in pair.err
    assert pair.pids() == []


def test_a_call_in_flight_gets_its_grace(start: Start, ports: dict[str, str]) -> None:
    """With GRACE_S above the default, a call that takes longer than that ends well after the stop signal."""
    (port,) = free_ports(1)
    pair = start("--quiet", GRACE_S="12", RECOMMENDATIONS_FAULTS_PORT=str(port)).wait_until_ready()
    slow = urllib.request.Request(f"http://127.0.0.1:{port}/slow?share=1&ms=6000", method="PUT")
    urllib.request.urlopen(slow, timeout=10).close()
    with grpc.insecure_channel(f"127.0.0.1:{ports['RECOMMENDATIONS_PORT']}") as channel:
        asked = RecommendationsStub(channel).Recommend.future(
            RecommendationRequest(max_results=1), timeout=30
        )
        time.sleep(0.5)  # it is in its handler
        assert pair.end(signal.SIGTERM) == 0
        assert asked.code() is grpc.StatusCode.OK
    assert pair.err == ""


def test_a_service_that_dies_is_named_and_ends_the_pair(start: Start) -> None:
    """The command says which service ended and with what, stops the other, and fails."""
    pair = start(GRACE_S="30").wait_until_ready()
    os.kill(pair.pid_of("services.recommendations"), signal.SIGKILL)
    assert pair.end() == 1
    assert pair.err.startswith("recommendations was killed by SIGKILL: ")
    assert pair.err.count("\n") == 1
    assert pair.pids() == []


def test_a_killed_command_leaves_no_service(start: Start) -> None:
    """Even without a chance to stop them, the services go with the command."""
    pair = start().wait_until_ready()
    pair.end(signal.SIGKILL)
    eventually(lambda: not pair.pids(), STOP_S)


@pytest.mark.parametrize("variable", ["MARKETPLACE_PORT", "RECOMMENDATIONS_METRICS_PORT"])
def test_a_port_in_use_is_one_line(start: Start, ports: dict[str, str], variable: str) -> None:
    """The line names the port and its variable, and nothing was started."""
    with socket.create_server(("127.0.0.1", int(ports[variable]))):
        pair = start()
        assert pair.end() == 1
    assert pair.err.startswith(f"{variable}: cannot listen on port {ports[variable]}")
    assert (pair.err.count("\n"), pair.out, pair.pids()) == (1, "", [])


@pytest.mark.parametrize(
    ("variable", "value"),
    [("RECOMMENDATIONS_PORT", "many"), ("MARKETPLACE_PORT", "70000"), ("PROMETHEUS_PORT", "0")],
)
def test_a_wrong_setting_is_one_line(start: Start, variable: str, value: str) -> None:
    """The line names the variable and its value, and nothing was started."""
    pair = start(**{variable: value})
    assert pair.end() == 2
    assert pair.err.startswith(f"{variable} must be ")
    assert f", got '{value}'; " in pair.err
    assert (pair.err.count("\n"), pair.out, pair.pids()) == (1, "", [])


def test_what_a_service_says_when_it_refuses_to_start_is_shown_once(start: Start, tmp_path: Path) -> None:
    """A wrong feed stops the start of both services, and is reported in one line."""
    feed = tmp_path / "books.csv"
    feed.write_text("id,title,author,category,price\nx,Emma,Jane Austen,MYSTERY,1\n")
    pair = start(BOOKS_FILE=str(feed))
    assert pair.end() == 1
    assert " ended with exit code " in pair.err
    assert str(feed) in pair.err
    assert (pair.err.count("\n"), pair.out, pair.pids()) == (1, "", [])


def test_traces_go_to_the_endpoint_that_the_user_names(start: Start, ports: dict[str, str]) -> None:
    """With OpenTelemetry's variable set, nothing is printed here, and the words say where traces go."""
    pair = start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9").wait_until_ready()
    get(ports["MARKETPLACE_PORT"], "/")
    assert pair.end(signal.SIGTERM) == 0
    assert "sent to http://127.0.0.1:9 (OTEL_EXPORTER_OTLP_ENDPOINT)" in pair.out
    assert "\ntrace " not in pair.out


@pytest.mark.full
@pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs Prometheus; with it on PATH, run this again"
)
def test_prometheus_scrapes_both_services_and_is_not_needed(start: Start, ports: dict[str, str]) -> None:
    """Prometheus finds both services up; when it dies, one line says so and the shop goes on."""
    pair = start().wait_until_ready()
    up = "/api/v1/query?query=sum(up)"
    eventually(lambda: '"2"]' in get(ports["PROMETHEUS_PORT"], up)[1], 30)
    os.kill(pair.pid_of("--enable-feature=exemplar-storage"), signal.SIGKILL)
    eventually(lambda: "prometheus was killed by SIGKILL" in pair.out, STOP_S)
    assert get(ports["MARKETPLACE_PORT"], "/")[0] == 200
    assert pair.end(signal.SIGTERM) == 0


@pytest.mark.full
def test_metrics_that_are_guarded(start: Start, ports: dict[str, str], tmp_path: Path) -> None:
    """Behind TLS, certificates and a token, they are on the page of traces, and Prometheus scrapes them."""
    Authority().write(tmp_path / "certs")
    (tmp_path / "token").write_text("a-token-of-the-test\n")
    files = {f"METRICS_{name}_FILE": str(tmp_path / "certs" / file) for name, file in METRICS.items()}
    pair = start("--quiet", **files, METRICS_TOKEN_FILE=str(tmp_path / "token")).wait_until_ready()
    assert (
        f"its metrics                https://127.0.0.1:{ports['MARKETPLACE_METRICS_PORT']}/metrics"
        in pair.out
    )
    assert get(ports["MARKETPLACE_PORT"], "/")[0] == 200
    eventually(lambda: "GET /</" in get(ports["TRACES_PORT"], "/methods")[1], 30)
    if shutil.which("prometheus"):
        eventually(lambda: '"2"]' in get(ports["PROMETHEUS_PORT"], "/api/v1/query?query=sum(up)")[1], 30)


@pytest.mark.full
@pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs Prometheus; with it on PATH, run this again"
)
def test_prometheus_port_in_use_is_reported_and_the_pair_goes_on(start: Start, ports: dict[str, str]) -> None:
    """Prometheus is an extra: without its port the pair starts all the same."""
    with socket.create_server(("127.0.0.1", int(ports["PROMETHEUS_PORT"]))):
        pair = start().wait_until_ready()
    assert "not started: PROMETHEUS_PORT: cannot listen" in pair.out
    assert pair.end(signal.SIGTERM) == 0


def test_without_prometheus_the_words_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Prometheus, the words say why there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    port = Port("PROMETHEUS_PORT", "127.0.0.1", 9090)
    assert start_prometheus(port, {}, tmp_path) == (None, "not started: not on PATH")


def test_each_service_is_a_job() -> None:
    """The configuration names each service's metrics under the service's name."""
    targets = {"marketplace": Endpoint("127.0.0.1:9101", ServiceSettings())}
    jobs = json.loads(prometheus_configuration(targets))["scrape_configs"]
    assert jobs == [{"job_name": "marketplace", "static_configs": [{"targets": ["127.0.0.1:9101"]}]}]
