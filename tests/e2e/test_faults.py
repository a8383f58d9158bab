"""Faults, in the real services: off and out of reach unless allowed, and seen by telemetry when on."""

import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from observability.testing import eventually
from services.faults.catalogue import FAULTS
from tests.e2e.processes import ROOT, Pair, Receiver, free_ports, pair

NAMES = ("MARKETPLACE_FAULTS_PORT", "RECOMMENDATIONS_FAULTS_PORT")


class Faulty:
    """The pair, and the program that switches its faults."""

    def __init__(self, running: Pair, receiver: Receiver, ports: dict[str, str]) -> None:
        self.pair, self.receiver, self.ports = running, receiver, ports

    def faults(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return faults(self.ports, *arguments)

    def spans(self, answer: tuple[int, str, dict[str, str]], count: int) -> dict[str, Any]:
        """The page's spans by service and kind, when all have come."""
        trace = answer[2]["traceresponse"].split("-")[1]
        found = eventually(lambda: spans if len(spans := self._of(trace)) >= count else [])
        return {f"{service} {span.kind}": span for service, span in found}

    def _of(self, trace: str) -> list[tuple[str, Any]]:
        return [(service, span) for service, span in self.receiver.spans if span.trace_id.hex() == trace]

    def lines(self, service: str, event: str) -> list[dict[str, Any]]:
        complete = getattr(self.pair, service).log.read_text().rpartition("\n")[0]
        lines = map(json.loads, complete.splitlines())
        return [line for line in lines if line["event"].startswith(event)]


def faults(
    ports: dict[str, str], *arguments: str, module: str = "tools.faults"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | ports, text=True, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    ports = dict(zip(NAMES, map(str, free_ports(2)), strict=True))
    with pair(tmp_path_factory.mktemp("faults"), MARKETPLACE_THREADS="4", **ports) as (running, receiver):
        yield Faulty(running, receiver, ports)


@pytest.fixture
def both(shared: Faulty) -> Iterator[Faulty]:
    yield shared
    assert shared.faults("heal").returncode == 0


def milliseconds(span: Any) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def test_slow_is_in_the_call(both: Faulty) -> None:
    """Recommendations' own span, metric and line last as long as the fault says; healed, they do not."""
    assert both.faults("on", "slow", "1", "300").stdout == "recommendations: on: slow\n"
    server = both.spans(both.pair.get("/"), 3)["recommendations 2"]
    assert milliseconds(server) >= 300
    (line,) = eventually(
        lambda: [
            x for x in both.lines("recommendations", "grpc.") if x.get("span_id") == server.span_id.hex()
        ]
    )
    assert line["duration_ms"] >= 300
    assert both.faults("heal").stdout.splitlines()[1] == "recommendations: healed: slow"
    assert both.faults("now").stdout.splitlines()[1] == "recommendations: no fault is on"
    assert "Server-Timing" in both.pair.get("/")[2]


def test_the_services_own_program(both: Faulty) -> None:
    """What a container holds asks its service alone: the answer, and an exit code that says what went wrong."""
    ports = dict.fromkeys(both.ports, "") | {NAMES[1]: both.ports[NAMES[1]]}
    inside = functools.partial(faults, module="services.faults")
    assert inside(ports, "on", "slow", "1", "20").stdout == "on: slow\n"
    assert "slow" in inside(ports, "now").stdout
    assert inside(ports, "heal").stdout == "healed: slow\n"
    refused = inside(ports, "on", "slow", "2")
    assert (refused.returncode, "got '2'" in refused.stderr) == (2, True)
    (nobody,) = map(str, free_ports(1))
    assert inside({**ports, NAMES[1]: nobody}, "now").returncode == 1
    assert inside(dict.fromkeys(both.ports, ""), "now").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [(("errors",), "INTERNAL", 200), (("errors", "1", "", "DATA_LOSS"), "DATA_LOSS", 200), (("not-found",), "NOT_FOUND", 404)],
)  # fmt: skip
def test_errors_are_in_the_call(both: Faulty, arguments: tuple[str, ...], code: str, status: int) -> None:
    """Both sides' spans say the code; the page goes on without recommendations, or says NOT_FOUND."""
    arguments = arguments if len(arguments) > 1 else (*arguments, "1")
    assert both.faults("on", *arguments).returncode == 0
    answer = both.pair.get("/")
    spans = both.spans(answer, 3)
    assert answer[0] == status
    for side in ("marketplace 3", "recommendations 2"):
        assert code in str(spans[side].attributes)


def test_a_share_of_nothing_changes_nothing(both: Faulty) -> None:
    """With SHARE=0 no call is touched."""
    assert both.faults("on", "errors", "0").returncode == 0
    assert {both.pair.get("/")[1].count("<li>") for _ in range(20)} == {3}


def test_a_page_fails(both: Faulty) -> None:
    """The page is a 500 with its trace; its span is an error; health and static files stay well."""
    assert both.faults("on", "page-errors", "1").returncode == 0
    answer = both.pair.get("/")
    assert answer[0] == 500
    assert both.spans(answer, 1)["marketplace 2"].status.code == 2
    assert [both.pair.get(path)[0] for path in ("/livez", "/readyz", "/static/shop.css")] == [200, 200, 200]
    assert eventually(lambda: both.lines("marketplace", "a page failed"))


def test_a_page_is_slow(both: Faulty) -> None:
    """The page's span takes the time, and its call does not."""
    assert both.faults("on", "page-slow", "1", "400").returncode == 0
    spans = both.spans(both.pair.get("/"), 3)
    assert milliseconds(spans["marketplace 2"]) >= 400
    assert milliseconds(spans["recommendations 2"]) < 400


def test_threads_are_stuck_until_healed(both: Faulty) -> None:
    """A share of the threads is held and counted against marketplace_threads; the others serve; a heal frees them."""
    assert "marketplace_threads 4.0" in both.pair.scrape("marketplace")
    assert both.faults("on", "stuck", "0.75").returncode == 0
    url = both.pair.url.removeprefix("http://")
    held = [HTTPConnection(url, timeout=20) for _ in range(3)]
    for connection in held:
        connection.request("GET", "/")
    active = 'http_server_active_requests{http_request_method="GET"} 3.0'
    eventually(lambda: active in both.pair.scrape("marketplace"))
    assert both.pair.get("/books")[0] == 200
    both.faults("heal")
    for connection in held:
        with connection.getresponse() as answer:
            assert answer.status == 200
        connection.close()


def memory(running: Pair) -> float:
    lines = running.scrape("recommendations").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes"))


def test_a_leak_is_bounded_and_given_back(both: Faulty) -> None:
    """Memory grows by 64 MiB and no more, however many calls there are; a heal gives it back."""
    before = memory(both.pair)
    both.faults("on", "leak", "1")
    for _ in range(100):
        both.pair.get("/")
    grown = memory(both.pair) - before
    assert 60 * 2**20 < grown < 80 * 2**20
    both.faults("heal")
    eventually(lambda: memory(both.pair) - before < 20 * 2**20)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fast",), "NAME must be one of slow, errors, not-found"),
        (("slow", "2"), "SHARE must be a number from 0 to 1"),
        (("slow", "nan"), "SHARE must be a number from 0 to 1"),
        (("slow", "1", "10001"), "MS must be a number from 0 to 10000"),
        (("slow", "", "soon"), "MS must be a number from 0 to 10000"),
        (("not-found", "1", "5"), "MS must be none for not-found"),
        (("errors", "1", "", "OK"), "CODE must be one of CANCELLED, UNKNOWN"),
        (("slow", "1", "5", "INTERNAL"), "CODE must be none for slow"),
    ],
)
def test_what_is_not_allowed(both: Faulty, arguments: tuple[str, ...], said: str) -> None:
    """A wrong value is one line with field, value and what is allowed; exit code 2; nothing is on."""
    done = both.faults("on", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(said)
    assert "SHARE" not in both.faults("now").stdout


def test_both_switches_are_in_the_log(both: Faulty) -> None:
    """On and off are lines at warn with the fault's name."""
    both.faults("on", "slow", "0.5", "10")
    both.faults("heal")
    expected = [("warn", "fault on: slow SHARE=0.5 MS=10"), ("warn", "fault off: slow")]
    eventually(
        lambda: [(x["level"], x["event"]) for x in both.lines("recommendations", "fault ")[-2:]] == expected
    )


@pytest.mark.parametrize("headers", [{"Host": "shop.example:80"}, {"Origin": "http://shop.example"}])
def test_no_browser_gets_in(both: Faulty, headers: dict[str, str]) -> None:
    """A page of the internet that is led to the port is refused."""
    connection = HTTPConnection("127.0.0.1", int(both.ports[NAMES[1]]), timeout=10)
    connection.request("PUT", "/slow", headers=headers)
    with connection.getresponse() as answer:
        assert answer.status == 403
    connection.close()
    assert "slow" not in both.faults("now").stdout


def test_only_loopback_listens(tmp_path: Path) -> None:
    """Whatever BIND_HOST says, the switches listen on 127.0.0.1 alone; a crash ends the process with 70."""
    ports = dict(zip(NAMES, map(str, free_ports(2)), strict=True))
    with pair(tmp_path, BIND_HOST="0.0.0.0", **ports) as (running, _):
        for port in ports.values():
            with socket.create_server(("127.0.0.2", int(port))):
                pass  # nobody listens on 0.0.0.0, which would hold this address too
        assert faults(ports, "on", "crash").stdout == "recommendations: on: crash\n"
        assert running.recommendations.process.wait(10) == 70
        done = faults(ports, "now")
        assert done.returncode == 1
        assert "make run FAULTS=1" in done.stderr


def test_unset_there_are_none(tmp_path: Path) -> None:
    """Without the variables neither process listens on any port but its own two."""
    with pair(tmp_path) as (running, _):
        for service in (running.marketplace, running.recommendations):
            assert len(listening(family(service.process.pid))) == 2


def family(pid: int) -> set[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid}.union(*(family(int(child)) for child in children))


def listening(pids: set[int]) -> set[int]:
    links = [os.readlink(x) for pid in pids for x in Path(f"/proc/{pid}/fd").iterdir() if x.is_symlink()]
    tables = [
        *Path("/proc/net/tcp").read_text().splitlines(),
        *Path("/proc/net/tcp6").read_text().splitlines(),
    ]
    rows = [row.split() for row in tables]
    return {
        int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links
    }


def test_the_list_says_what_to_expect() -> None:
    """Each fault is listed with its service, alert, panel and trace, though nothing runs."""
    ports = dict(zip(NAMES, map(str, free_ports(2)), strict=True))
    done = faults(ports, "list")
    assert done.returncode == 0
    for fault in FAULTS.values():
        for word in (fault.name, fault.service, fault.does, fault.alert, fault.panel, fault.culprit):
            assert word in done.stdout
