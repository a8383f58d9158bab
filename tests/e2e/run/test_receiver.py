from collections.abc import Iterator
from unittest.mock import ANY

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode, Tracer

from tools.run.receiver import Receiver
from tools.run.traces import Span, Traces


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def tracer(traces: Traces) -> Iterator[Tracer]:
    """A tracer that exports over real gRPC to the receiver."""
    receiver = Receiver(traces.add)
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(receiver.endpoint, timeout=5)))
    yield provider.get_tracer("test")
    provider.shutdown()
    receiver.stop()


def only(traces: Traces) -> Span:
    [[span]] = traces.take_all()
    return span


def test_exported_spans_arrive_as_one_trace(traces: Traces, tracer: Tracer) -> None:
    """What OpenTelemetry's own exporter sends is read with its names, parents and times."""
    with tracer.start_as_current_span("outer", attributes={"http.response.status_code": 200}):
        tracer.start_span("inner", attributes={"rpc.status_code": "NOT_FOUND"}).end()
    [[inner, outer]] = traces.take_all()
    assert (inner.name, inner.status, inner.parent_id) == ("inner", "NOT_FOUND", outer.span_id)
    assert (outer.name, outer.status, outer.parent_id) == ("outer", "200", "")
    assert inner.trace_id == outer.trace_id
    assert outer.service == "shop"
    assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns


def test_a_failed_span_without_status_attribute_says_error(traces: Traces, tracer: Tracer) -> None:
    """A span that is neither HTTP nor gRPC still shows that it failed."""
    span = tracer.start_span("query")
    span.set_status(StatusCode.ERROR)
    span.end()
    assert only(traces) == Span(ANY, ANY, "", "shop", "query", "ERROR", True, ANY, ANY)


def test_text_cannot_steer_the_terminal(traces: Traces, tracer: Tracer) -> None:
    """Control characters and reordering marks that a span brings are replaced."""
    tracer.start_span("a\x1b[2Jb\r\nc\u202e", attributes={"rpc.status_code": "O\aK"}).end()
    span = only(traces)
    assert (span.name, span.status) == ("a\ufffd[2Jb\ufffd\ufffdc\ufffd", "O\ufffdK")
