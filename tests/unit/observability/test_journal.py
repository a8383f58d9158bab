"""Telemetry is never in the way of a call, and what it says is true at every moment."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from observability import Telemetry
from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import Sync, aio_server_thread, channel, sync_server

SERVERS = pytest.mark.parametrize("serve", [sync_server, aio_server_thread], ids=["threaded", "asyncio"])
METHODS = {
    "returns": "OK",
    "raises": "UNKNOWN",
    "sets": "ALREADY_EXISTS",
    "rich": "NOT_FOUND",
    "sets_then_raises": "DATA_LOSS",
}
LONG_S = 3600.0


def call(made: Any, method: str) -> str:
    """Make a call; its status."""
    ended = made.unary_unary(f"/test.Service/{method}").future(b"x", timeout=60)
    return str(ended.code().name)


STEPS = {
    "a call is recorded": ("grpc.recorder.Recorder.begin",),
    "a span is started": ("signals.tracing.Tracing._beginning",),
    "the end is watched": (
        "grpc.server.ServerRpc.watch",
        "grpc.aio_server.AioServerRpc._outcome",
        "grpc.client.ObservedCall.over",
    ),
    "the handler is watched": (
        "grpc.server.ServerRpc._note",
        "grpc.aio_server.AioServerRpc._note",
        "grpc.client._observed",
    ),
    "an outcome is found": (
        "grpc.server.threaded_outcome",
        "grpc.aio_server.aio_outcome",
        "grpc.client.text",
    ),
    "the metrics take it": ("signals.metrics.CallMetrics.fold",),
    "the metrics take a batch": ("signals.metrics.Metrics.record",),
    "the log takes it": ("signals.logs.call_level",),
    "a span is ended": ("signals.tracing.Tracing._end",),
}


class InjectedError(Exception):
    """A failure of ours."""


@SERVERS
@pytest.mark.parametrize("name", STEPS)
def test_a_failure_of_ours_changes_nothing(name: str, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever telemetry fails, on either side, the call is as it was, the failure is counted, and nothing stays
    in flight.
    """

    def fail(*_: Any, **__: Any) -> Any:
        raise InjectedError

    server, client = MemoryTelemetry(), MemoryTelemetry()
    with serve(server) as target, channel(client, target) as made:
        for path in STEPS[name]:
            monkeypatch.setattr(f"observability.{path}", fail)
        assert {method: call(made, method) for method in METHODS} == METHODS
        assert list(made.stream_stream("/test.Service/count")(iter([b"1", b"2"]), timeout=60)) == [b"1", b"2"]
        eventually(
            lambda: server.value("grpc_server_in_flight") == client.value("grpc_client_in_flight") == 0
        )
    for telemetry in (server, client):
        telemetry.force_flush()
        assert telemetry.value("telemetry_signal_failures_total") > 0


@contextmanager
def scraped(telemetry: MemoryTelemetry) -> Iterator[list[dict[str, float]]]:
    """Reads of the registry, one after the other, for as long as the block runs."""
    reads: list[dict[str, float]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found: Counter[str] = Counter()
            for metric in telemetry.registry.collect():
                for sample in metric.samples:
                    found[sample.name] += sample.value  # type: ignore[assignment]
            reads.append(dict(found))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield reads
    finally:
        stop.set()
        thread.join()


@SERVERS
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=st.lists(st.lists(st.sampled_from(sorted(METHODS)), max_size=60), min_size=2, max_size=4))
def test_started_is_handled_and_in_flight(serve: Any, plan: list[list[str]]) -> None:
    """Each read of /metrics, at any moment under load, has started = handled + in flight; after a flush every call
    has one span, one line and one count, with its status.
    """
    server, client = MemoryTelemetry(), MemoryTelemetry()

    def run(methods: list[str]) -> list[str]:
        with channel(client, target) as made:
            return [call(made, method) for method in methods]

    with (
        serve(server) as target,
        scraped(server) as reads,
        scraped(client) as client_reads,
        ThreadPoolExecutor(len(plan)) as pool,
    ):
        statuses = Counter(status for each in pool.map(run, plan) for status in each)
    for side, found in (("server", reads), ("client", client_reads)):
        for read in found:
            ended = read.get(f"grpc_{side}_handled_total", 0) + read.get(f"grpc_{side}_in_flight", 0)
            assert read.get(f"grpc_{side}_started_total", 0) == ended
    for side, telemetry in (("server", server), ("client", client)):
        assert telemetry.force_flush()
        assert Counter((span.attributes or {})["rpc.status_code"] for span in telemetry.spans()) == statuses
        assert Counter(line["status"] for line in telemetry.lines()) == statuses
        for status, count in statuses.items():
            assert telemetry.value(f"grpc_{side}_handled_total", grpc_code=status) == count
        assert telemetry.value(f"grpc_{side}_handling_seconds_count") == statuses.total()


def test_a_full_journal_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that find the journal full are lost to spans and lines, counted as such, and in the counters."""
    monkeypatch.setattr("observability.journal.MAX_WAITING", 5)
    monkeypatch.setattr("observability.journal.DELAY_S", LONG_S)
    server = MemoryTelemetry()
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        for _ in range(12):
            call(made, "returns")
        eventually(lambda: server.value("grpc_server_handled_total", grpc_code="OK") == 12)
    lost = server.value("telemetry_records_dropped_total", reason="queue_full")
    assert lost > 0
    assert len(server.spans()) == len(server.lines()) == 12 - lost
    assert server.value("grpc_server_started_total") == 12
    assert server.value("grpc_server_in_flight") == 0


def test_errors_are_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of level error is written at once, and what waited before it comes along."""
    monkeypatch.setattr("observability.journal.DELAY_S", LONG_S)
    monkeypatch.setattr("observability.signals.logs.DELAY_S", LONG_S)
    server = MemoryTelemetry()
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        call(made, "returns")
        assert server._text.getvalue() == ""
        call(made, "raises")
        eventually(lambda: len(server._text.getvalue().splitlines()) == 2)


@SERVERS
def test_a_log_reader_that_stopped_stops_nobody(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody reading standard output's pipe, calls go on; lines that do not fit are counted."""
    monkeypatch.setattr("observability.signals.logs.MAX_WAITING", 20_000)
    read_end, write_end = os.pipe()
    count = 2_000
    with os.fdopen(write_end, "w") as stream:
        server = MemoryTelemetry(log_stream=stream)
        with serve(server) as target, channel(MemoryTelemetry(), target) as made:
            assert {call(made, "returns") for _ in range(count)} == {"OK"}
            eventually(lambda: server.value("grpc_server_handled_total") == count)
            assert server.value("telemetry_log_lines_dropped_total", reason="queue_full") > 0
        threading.Timer(
            0.1, os.close, [read_end]
        ).start()  # it breaks the pipe, which ends the write that hangs
        server.shutdown(timeout_s=10)
    dropped = server.value("telemetry_log_lines_dropped_total")
    assert count / 2 < dropped <= count


@SERVERS
@pytest.mark.usefixtures("silent")
def test_a_silent_collector_stops_nobody(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a collector that accepts and never answers, calls go on under load, and every span is counted as lost."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    registry, count = CollectorRegistry(), 500
    with open(os.devnull, "w") as nowhere:
        server: Any = Telemetry("silent", registry=registry, log_stream=nowhere)
        with (
            serve(server) as target,
            channel(MemoryTelemetry(), target) as made,
            ThreadPoolExecutor(4) as pool,
        ):
            assert set(pool.map(lambda _: call(made, "returns"), range(count))) == {"OK"}
        server.shutdown(timeout_s=1)
    lost = sum(
        registry.get_sample_value("telemetry_spans_dropped_total", {"reason": reason}) or 0
        for reason in ("queue_full", "export_failed", "shutdown")
    )
    assert lost == count


FULL_DISK = """
import resource
from tests.unit.observability.rpc import channel, sync_server
from observability.testing import MemoryTelemetry
client = MemoryTelemetry()
with sync_server(MemoryTelemetry()) as target, channel(client, target) as made:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    calls = [made.unary_unary(f"/{number:0500}/x").future(b"x", timeout=60) for number in range(300)]
    assert {call.code().name for call in calls} == {"UNIMPLEMENTED"}
assert len(client.lines()) == len(client.spans()) == 300
assert client.tally.counts()["telemetry_signal_failures", "metrics"] > 0
resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # coverage writes its file at the end
"""


def run(code: str, **environ: str) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    """Where processes share their metrics in files, and no file can grow, calls go on, and the failure is counted."""
    run(FULL_DISK, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))


AT_EXIT = """
import grpc
from prometheus_client import CollectorRegistry
from observability import Telemetry
from tests.unit.observability.rpc import channel, sync_server
telemetry = Telemetry("leaves")
with sync_server(telemetry) as target, channel(telemetry, target) as made:
    made.unary_unary("/test.Service/returns")(b"x", timeout=60)
"""


def test_nobody_calls_shutdown() -> None:
    """A process that ends without a shutdown has written its lines and exported its spans."""
    printed = run(AT_EXIT, OTEL_TRACES_EXPORTER="console")
    lines = [json.loads(line) for line in printed.splitlines() if '"event"' in line]
    assert sorted(line["event"] for line in lines) == ["grpc.client.call", "grpc.server.call"]
    assert printed.count('"rpc.status_code": "OK"') == 2


class Slow(Sync):
    """Holds a stream open."""

    def ticks(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield request
        self.released.wait(10)


def test_what_runs_is_counted_while_it_runs() -> None:
    """A stream that is open is started, in flight, and its messages count."""
    server, service = MemoryTelemetry(), Slow()
    with sync_server(server, service) as target, grpc.insecure_channel(target) as bare:
        made: Any = bare
        stream = made.unary_stream("/test.Service/ticks")(b"x", timeout=60)
        next(stream)
        eventually(lambda: server.value("grpc_server_msg_sent_total") == 1)
        assert server.value("grpc_server_started_total") == server.value("grpc_server_in_flight") == 1
        assert server.value("grpc_server_handled_total") == 0
        service.released.set()
        assert list(stream) == []
    assert server.value("grpc_server_handled_total", grpc_code="OK") == 1


class Broken:
    """A signal that a user adds, and that fails."""

    name = "broken"

    def record(self, batch: Any) -> None:
        raise RuntimeError


def test_a_signal_that_a_user_adds_harms_no_other(telemetry: MemoryTelemetry) -> None:
    """What it raises is counted; the other signals have the call, even those after it."""
    telemetry.journal.signals.insert(0, Broken())
    with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
        assert call(made, "returns") == "OK"
    telemetry.span("test.Service/returns", kind="server", status="OK")
    assert telemetry.line(event="grpc.server.call")["status"] == "OK"
    assert telemetry.metric("grpc_server_handled_total", grpc_method="returns", grpc_code="OK") == 1
    assert telemetry.metric("telemetry_signal_failures_total", signal="broken") >= 1
