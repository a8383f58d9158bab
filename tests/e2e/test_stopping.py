"""How the services start and stop as processes: refusals in a line, and no call lost at the end."""

import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest

from observability.testing import eventually
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from tests.e2e.processes import Pair, Service, free_ports, get, pair

BAD_ROW = "id,title,author,category,price\n1,T,A,COOKING,1\n"


def browse(running: Pair, stop: threading.Event) -> Counter[int]:
    """Ask for pages as a load balancer does: until the shop says that it is not ready."""
    seen: Counter[int] = Counter()
    while not stop.is_set() and running.get("/readyz")[0] == 200:
        seen[running.get("/")[0]] += 1
    return seen


def test_the_shop_loses_no_request(tmp_path: Path) -> None:
    """On SIGTERM readiness fails first; every page that was asked for before is answered; the exit code is 0."""
    with pair(tmp_path) as (running, receiver), ThreadPoolExecutor(8) as people:
        stop = threading.Event()
        browsing = [people.submit(browse, running, stop) for _ in range(8)]
        eventually(lambda: len(receiver.spans) > 100, 60)
        assert running.marketplace.stop() == 0
        stop.set()
        seen = sum((each.result() for each in browsing), Counter())
        assert set(seen) == {200}
        assert running.get("/")[0] == 0
        roots = [
            span for service, span in receiver.spans if service == "marketplace" and not span.parent_span_id
        ]
        assert len(roots) >= seen[200]


def call(port: int, stop: threading.Event) -> Counter[str]:
    seen: Counter[str] = Counter()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = RecommendationsStub(channel)  # type: ignore[no-untyped-call]
        while not stop.is_set():
            try:
                stub.Recommend(RecommendationRequest(max_results=3), timeout=10)
                seen["OK"] += 1
            except grpc.RpcError as error:
                seen[error.code().name] += 1
                break
    return seen


def test_recommendations_loses_no_call(tmp_path: Path) -> None:
    """On SIGTERM a call is either answered or refused: each call that the server began, it finished."""
    with pair(tmp_path) as (running, receiver), ThreadPoolExecutor(8) as callers:
        stop = threading.Event()
        calling = [callers.submit(call, running.grpc, stop) for _ in range(8)]
        eventually(lambda: len(receiver.spans) > 500, 60)
        assert running.recommendations.stop() == 0
        stop.set()
        seen = sum((each.result() for each in calling), Counter())
        assert set(seen) <= {"OK", "UNAVAILABLE"}
        eventually(lambda: served(receiver) >= seen["OK"])
        assert not [span for _, span in receiver.spans if "CANCELLED" in str(span.attributes)]


def served(receiver: Any) -> int:
    return sum(service == "recommendations" for service, _ in receiver.spans)


def test_pages_go_on_without_recommendations(tmp_path: Path) -> None:
    """Recommendations killed, the pages say so and count it; started again, they recommend again."""
    with pair(tmp_path, RECOMMENDATIONS_TIMEOUT_MS="1500") as (running, _):
        running.recommendations.stop(signal.SIGKILL)
        status, page, _headers = running.get("/")
        assert status == 200
        assert "Recommendations are not available now" in page
        assert not re.search(r"<li\b", page)
        assert running.get("/books/1")[0] == 200
        assert running.get("/readyz")[0] == 200
        assert degraded(running, "UNAVAILABLE") == 2
        running.recommendations = running.start("recommendations")
        eventually(lambda: running.get("/")[1].count("<li>") == 3, 30)
        late = degraded(running, "DEADLINE_EXCEEDED")  # none, unless the machine is slow
        running.recommendations.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, running.recommendations.process.pid, os.WSTOPPED)  # all of its threads
        page = running.get("/")[1]
        running.recommendations.process.send_signal(signal.SIGCONT)
        assert "Recommendations are not available now" in page
        assert degraded(running, "DEADLINE_EXCEEDED") == late + 1


def degraded(running: Pair, reason: str) -> float:
    """How many pages went without recommendations for that reason."""
    (count,) = re.findall(
        rf'^marketplace_recommendations_degraded_total{{reason="{reason}"}} (\S+)$',
        running.scrape("marketplace"),
        re.MULTILINE,
    )
    return float(count)


class Alone:
    """One service that delivers its traces to nobody."""

    def __init__(self, name: str, directory: Path) -> None:
        self.port, self.metrics = free_ports(2)
        self.service = Service(
            name,
            directory,
            OTEL_TRACES_EXPORTER="otlp",
            DRAIN_S="0",
            **{f"{name.upper()}_PORT": str(self.port), f"{name.upper()}_METRICS_PORT": str(self.metrics)},
        )

    def has_begun(self) -> bool:
        """Whether it catches or ignores SIGHUP: each service does once it has taken the signals that stop it."""
        status = Path(f"/proc/{self.service.process.pid}/status").read_text()
        masks = re.findall(r"^Sig(?:Cgt|Ign):\s+(\w+)$", status, re.MULTILINE)
        return any(int(mask, 16) >> signal.SIGHUP - 1 & 1 for mask in masks)


eithers = pytest.mark.parametrize(
    ("name", "number"), list(product(["recommendations", "marketplace"], [signal.SIGTERM, signal.SIGINT]))
)


@eithers
def test_either_signal_stops_either_service(name: str, number: signal.Signals, tmp_path: Path) -> None:
    """SIGTERM and SIGINT end a service with 0, though traces can be delivered to nobody."""
    alone = Alone(name, tmp_path)
    eventually(lambda: get(f"http://127.0.0.1:{alone.metrics}/metrics")[0] == 200, 30)
    if name == "marketplace":
        eventually(lambda: get(f"http://127.0.0.1:{alone.port}/livez")[0] == 200, 30)
    assert alone.service.stop(number) == 0
    assert alone.service.errors.read_text() == ""


@eithers
def test_either_signal_ends_its_start(name: str, number: signal.Signals, tmp_path: Path) -> None:
    """A service that is stopped before it serves ends with 0, too, and in silence."""
    alone = Alone(name, tmp_path)
    eventually(alone.has_begun, 30)
    assert alone.service.stop(number) == 0
    assert alone.service.errors.read_text() == ""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_no_signal_cuts_a_stop_short(first: signal.Signals, tmp_path: Path) -> None:
    """Either signal lets a service serve until DRAIN_S is over, and being asked again changes nothing."""
    with pair(tmp_path, DRAIN_S="3") as (running, _):
        services = (running.marketplace, running.recommendations)
        asked_s = time.monotonic()
        for service in services:
            service.process.send_signal(first)
        eventually(lambda: running.get("/readyz")[0] == 503)
        for number in (signal.SIGTERM, signal.SIGINT):
            for service in services:
                service.process.send_signal(number)
        for service in services:
            assert service.process.wait(30) == 0
            assert time.monotonic() - asked_s >= 3


def test_a_service_that_was_frozen_stops(tmp_path: Path) -> None:
    """A signal that came while the process stood still is heeded when it goes on."""
    with pair(tmp_path) as (running, _):
        for service in (running.recommendations, running.marketplace):
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
                service.process.send_signal(number)
            assert service.process.wait(30) == 0


@pytest.mark.parametrize("name", ["recommendations", "marketplace"])
@pytest.mark.parametrize("which", ["PORT", "METRICS_PORT"])
def test_a_port_in_use_is_a_line(name: str, which: str, tmp_path: Path) -> None:
    """It names the variable and what to do; the exit code is not 0."""
    variable = f"{name.upper()}_{which}"
    ports = dict(
        zip((f"{name.upper()}_PORT", f"{name.upper()}_METRICS_PORT"), map(str, free_ports(2)), strict=True)
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[variable] = str(taken.getsockname()[1])
        service = Service(name, tmp_path, **ports)
        assert service.process.wait(30) != 0
    said = service.errors.read_text()
    assert said.startswith(f"{variable}: cannot listen on port {ports[variable]}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["recommendations", "marketplace"])
def test_a_bad_feed_is_a_line(name: str, tmp_path: Path) -> None:
    """It names file, line, column, value and what is allowed; the exit code is not 0."""
    feed = tmp_path / "bad.csv"
    feed.write_text(BAD_ROW)
    port, metrics = free_ports(2)
    ports = {f"{name.upper()}_PORT": str(port), f"{name.upper()}_METRICS_PORT": str(metrics)}
    service = Service(name, tmp_path, BOOKS_FILE=str(feed), **ports)
    assert service.process.wait(30) != 0
    said = service.errors.read_text()
    assert (
        "bad.csv, line 2, column category: must be one of MYSTERY, SCIENCE_FICTION, SELF_HELP, got 'COOKING'"
        in said
    )
    assert said.count("\n") == 1


def test_a_silent_connection_does_not_hold_the_shop(tmp_path: Path) -> None:
    """A connection on which nothing is asked is hung up on: the shop ends by itself, and its spans are flushed."""
    with pair(tmp_path, OTEL_BSP_SCHEDULE_DELAY="60000") as (running, receiver):
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            assert running.get("/books")[0] == 200
            assert running.marketplace.stop() == 0
        assert any(span.name == "GET /books" for _, span in receiver.spans)


def insist(port: int) -> Counter[str]:
    """Ask for pages, each on a new connection, whatever readiness says, until nobody listens."""
    seen: Counter[str] = Counter()
    while "ConnectionRefusedError" not in seen:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", "/")
            with connection.getresponse() as answer:
                seen[str(answer.status)] += 1
        except OSError as error:
            seen[type(error).__name__] += 1
        connection.close()
    return seen


def test_who_has_connected_is_answered(tmp_path: Path) -> None:
    """At the stop a connection is either served or refused, never reset."""
    with pair(tmp_path) as (running, receiver), ThreadPoolExecutor(8) as people:
        port = int(running.url.rpartition(":")[2])
        insisting = [people.submit(insist, port) for _ in range(8)]
        eventually(lambda: len(receiver.spans) > 100, 60)
        assert running.marketplace.stop() == 0
        seen = sum((each.result() for each in insisting), Counter())
        assert set(seen) == {"200", "ConnectionRefusedError"}
