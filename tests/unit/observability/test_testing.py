"""Telemetry in memory: what it finds, and what it says when it finds nothing."""

from typing import Any

import grpc
import pytest

from observability.testing import MemoryTelemetry
from tests.unit.observability.rpc import channel, sync_server

NAME = "test.Service/aborts"


@pytest.fixture
def called(telemetry: MemoryTelemetry) -> MemoryTelemetry:
    """One call that is not found, recorded on both sides."""
    with sync_server(telemetry) as target, channel(telemetry, target) as made, pytest.raises(grpc.RpcError):
        made.unary_unary("/test.Service/aborts")(b"NOT_FOUND", timeout=10)
    return telemetry


def test_what_is_there_is_found(called: MemoryTelemetry) -> None:
    """The span, the line and the series of a call, and the one trace that they belong to."""
    span: Any = called.span(NAME, kind="server", status="NOT_FOUND")
    assert span.attributes["rpc.system.name"] == "grpc"
    assert called.line(event="grpc.server.call")["status"] == "NOT_FOUND"
    assert called.metric("grpc_server_handled_total", grpc_method="aborts", grpc_code="NOT_FOUND") == 1
    assert called.assert_one_trace() == f"{span.context.trace_id:032x}"


def test_what_is_not_there_is_said(called: MemoryTelemetry) -> None:
    """Each error names what was looked for, and what was there instead."""
    with pytest.raises(
        AssertionError, match=r"(?s)one span test.Service/aborts OK, got 0;.*aborts server NOT_FOUND"
    ):
        called.span(NAME, status="OK")
    with pytest.raises(AssertionError, match=r"one span test.Service/aborts, got 2"):
        called.span(NAME)
    with pytest.raises(AssertionError, match=r"(?s)one line with {'status': 'OK'}, got 0;.*NOT_FOUND"):
        called.line(status="OK")
    with pytest.raises(
        AssertionError, match=r"(?s)one series grpc_server_handled_total.*, got 0;.*NOT_FOUND"
    ):
        called.metric("grpc_server_handled_total", grpc_code="ABORTED")
    called.tracer_provider.get_tracer("mine").start_span("alone").end()
    with pytest.raises(AssertionError, match=r"one trace, got 2"):
        called.assert_one_trace()
