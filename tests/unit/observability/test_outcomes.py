"""The table of outcomes: however a unary call ends, both sides' span, counter and line say what went over the wire."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import aio_server_thread, channel, eventually_idle, sync_server

Serve = Callable[[MemoryTelemetry], AbstractContextManager[str]]
SERVERS: dict[str, Serve] = {"sync": sync_server, "asyncio": aio_server_thread}
WAIT_S = 10.0
WARN = {"FAILED_PRECONDITION", "OUT_OF_RANGE", "ABORTED", "RESOURCE_EXHAUSTED"}
FAULTS = {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"}
CODES = [code.name for code in grpc.StatusCode if code.name not in {"OK", "CANCELLED", "DEADLINE_EXCEEDED"}]


def call(target: str, client: MemoryTelemetry, method: str, request: bytes, timeout: float = 10) -> str:
    with channel(client, target) as made:
        try:
            made.unary_unary(f"/test.Service/{method}")(request, timeout=timeout)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def recorded(telemetry: MemoryTelemetry, side: str) -> tuple[Any, Any]:
    """The one span and the one line of that side."""
    eventually(lambda: eventually_idle(telemetry, side, 1))
    kind = SpanKind.SERVER if side == "server" else SpanKind.CLIENT
    (span,) = [span for span in telemetry.spans() if span.kind is kind]
    (line,) = [line for line in telemetry.lines() if line["event"] == f"grpc.{side}.call"]
    return span, line


@pytest.fixture(params=SERVERS)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check(
    flavour: str,
    method: str,
    request: bytes,
    expected: str,
    level: str,
    *,
    fault: bool,
    events: int = 0,
    timeout: float = 10,
) -> Any:
    """Make the call and compare what all six witnesses say."""
    server, client = MemoryTelemetry("server"), MemoryTelemetry("client")
    with SERVERS[flavour](server) as target:
        status = call(target, client, method, request, timeout)
        server_span, server_line = recorded(server, "server")
    client_span, client_line = recorded(client, "client")
    assert status == expected
    for telemetry, side, span, line in (
        (server, "server", server_span, server_line),
        (client, "client", client_span, client_line),
    ):
        assert span.attributes["rpc.status_code"] == expected
        assert line["status"] == expected
        assert telemetry.value(f"grpc_{side}_handled_total", grpc_code=expected) == 1
        assert telemetry.value(f"grpc_{side}_started_total") == 1
        assert telemetry.value(f"grpc_{side}_in_flight") == 0
        assert line["duration_ms"] == pytest.approx((span.end_time - span.start_time) / 1e6, abs=0.001)
        assert telemetry.value(f"grpc_{side}_handling_seconds_sum") == pytest.approx(
            (span.end_time - span.start_time) / 1e9
        )
        assert line["trace_id"] == f"{span.context.trace_id:032x}"
    assert server_span.parent.span_id == client_span.context.span_id
    assert server_line["level"] == level
    assert server_span.status.status_code is (StatusCode.ERROR if fault else StatusCode.UNSET)
    assert client_span.status.status_code is (StatusCode.UNSET if expected == "OK" else StatusCode.ERROR)
    assert ("error.type" in server_span.attributes) is fault
    assert len(server_span.events) == events
    assert client_span.events == ()
    return server_span


def test_returns(flavour: str) -> None:
    """A handler that returns ends OK, and no span claims anything."""
    check(flavour, "returns", b"x", "OK", "info", fault=False)


@pytest.mark.parametrize("code", CODES)
def test_abort(flavour: str, code: str) -> None:
    """An abort is no exception; whose fault it is depends on the code alone."""
    level = "error" if code in FAULTS else "warn" if code in WARN else "info"
    check(flavour, "aborts", code.encode(), code, level, fault=code in FAULTS)


def test_set_code(flavour: str) -> None:
    """A code that was set is the status, though the handler returns."""
    check(flavour, "sets", b"x", "ALREADY_EXISTS", "info", fault=False)


def test_raises(flavour: str) -> None:
    """An uncaught exception is UNKNOWN, with one exception event and its stack in the log."""
    span = check(flavour, "raises", b"x", "UNKNOWN", "error", fault=True, events=1)
    assert span.events[0].attributes["exception.type"] == "ValueError"
    assert "broken" in span.status.description


def test_sets_then_raises(flavour: str) -> None:
    """An exception after set_code has that code."""
    check(flavour, "sets_then_raises", b"x", "DATA_LOSS", "error", fault=True, events=1)


def test_rich_status(flavour: str) -> None:
    """abort_with_status ends with the status's own code; reason and domain are attributes."""
    span = check(flavour, "rich", b"x", "NOT_FOUND", "info", fault=False)
    assert span.attributes["error.reason"] == "NO_SUCH_THING"
    assert span.attributes["error.domain"] == "test.example"


def test_unserializable_response(flavour: str) -> None:
    """A response that cannot be serialized ends with what bare gRPC sends for it."""
    code = "INTERNAL" if flavour == "sync" else "UNKNOWN"
    check(flavour, "unserializable", b"x", code, "error", fault=True, events=1)


def test_unparsable_request(flavour: str) -> None:
    """A request that cannot be parsed ends with what bare gRPC sends for it, and is still in the trace."""
    code = "INTERNAL" if flavour == "sync" else "UNKNOWN"
    check(flavour, "returns", b"unparsable", code, "error", fault=True, events=1)


def test_deadline(flavour: str) -> None:
    """After the deadline both sides say DEADLINE_EXCEEDED, though the handler would have returned."""
    check(flavour, "slow", b"x", "DEADLINE_EXCEEDED", "warn", fault=True, timeout=1.0)


def test_unknown_method(flavour: str) -> None:
    """A method that the server does not have is `_OTHER`, whatever its name is."""
    span = check(flavour, "no_such_method", b"x", "UNIMPLEMENTED", "warn", fault=True)
    assert span.attributes["rpc.method"] == "_OTHER"


def test_cancelled(flavour: str) -> None:
    """A call that its client cancels is CANCELLED on both sides, and no fault of the server."""
    server, client = MemoryTelemetry("server"), MemoryTelemetry("client")
    with SERVERS[flavour](server) as target, channel(client, target) as made:
        future = made.unary_unary("/test.Service/slow").future(b"x")
        eventually(lambda: server.value("grpc_server_in_flight") == 1)
        future.cancel()
        eventually(
            lambda: server.value("grpc_server_in_flight") == 0
        )  # else the server's stop lets it return
    for telemetry, side, expected in (
        (server, "server", StatusCode.UNSET),
        (client, "client", StatusCode.ERROR),
    ):
        span, line = recorded(telemetry, side)
        assert span.attributes["rpc.status_code"] == line["status"] == "CANCELLED"
        assert span.status.status_code is expected
        assert telemetry.value(f"grpc_{side}_in_flight") == 0
