"""Spans of calls are to handlers and exporters what the SDK's own are."""

from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from observability.testing import MemoryTelemetry, eventually
from tests.observability.rpc import Sync, channel, sync_server

OTHER = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))


def told(span: Any) -> None:
    """All that a handler may tell its span."""
    span.set_attribute("text", "a")
    span.set_attributes({"number": 1, "ratio": 0.5, "flag": True, "list": ["a", "b"]})
    span.add_event("happened", {"how": "well"}, timestamp=5)
    span.add_link(OTHER, {"why": "related"})
    span.update_name("renamed")
    span.set_status(Status(StatusCode.ERROR, "broken"))
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "too late: OK is final")


class Tells(Sync):
    def returns(self, request: bytes, context: Any) -> bytes:
        span = trace.get_current_span()
        assert span.is_recording()
        told(span)
        return request


class Marks(SpanProcessor):
    """Adds what its owner wants on each span."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        span.set_attribute("region", "north")


def call(server: MemoryTelemetry, service: Any, method: str = "returns") -> Any:
    with sync_server(server, service) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary(f"/test.Service/{method}").future(b"x", timeout=10).exception(10)
        eventually(server.spans)
    return server.spans()[0]


def test_a_handler_tells_its_span_what_it_would_tell_the_sdks() -> None:
    """Attributes, events, links, name and status that a handler sets are those that the SDK's span would have."""
    ours = call(MemoryTelemetry(), Tells())
    sdks: Any = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("call")
    told(sdks)
    assert dict(sdks.attributes).items() <= dict(ours.attributes).items()
    assert [(event.name, dict(event.attributes), event.timestamp) for event in ours.events] == [
        (event.name, dict(event.attributes), event.timestamp) for event in sdks.events
    ]
    assert [(link.context, dict(link.attributes)) for link in ours.links] == [(OTHER, {"why": "related"})]
    assert (ours.name, ours.status.status_code) == (sdks.name, sdks.status.status_code)


def test_a_processor_that_was_added_sees_the_spans_of_calls() -> None:
    """What is added to the provider of a Telemetry hears of a call's start, may add to it, and gets its end."""
    telemetry, seen = MemoryTelemetry(), InMemorySpanExporter()
    provider: Any = telemetry.tracer_provider
    provider.add_span_processor(Marks())
    provider.add_span_processor(SimpleSpanProcessor(seen))
    span = call(telemetry, Sync())
    assert [(found.name, dict(found.attributes or {})["region"]) for found in seen.get_finished_spans()] == [
        (span.name, "north")
    ]


@pytest.mark.parametrize("touched", [False, True])
def test_nothing_changes_a_span_that_has_ended(touched: bool) -> None:
    """After its call a span does not record, and what is exported keeps what it had."""
    kept: list[Any] = []

    class Keeps(Sync):
        def returns(self, request: bytes, context: Any) -> bytes:
            kept.append(trace.get_current_span())
            if touched:
                kept[0].set_attribute("early", "x")
            return request

    span = call(MemoryTelemetry(), Keeps())
    before = span.to_json()
    (late,) = kept
    told(late)
    late.end()
    assert not late.is_recording()
    assert late.get_span_context() == span.context
    assert span.to_json() == before


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, its length and OTEL_SPAN_EVENT_COUNT_LIMIT hold; what is over is counted."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "12")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "20")
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "2")

    class Chatty(Sync):
        def returns(self, request: bytes, context: Any) -> bytes:
            span = trace.get_current_span()
            for number in range(50):
                span.set_attribute(f"key {number}", number)
                span.add_event("event")
            span.set_attribute("long", "x" * 100)
            return request

    span = call(MemoryTelemetry(), Chatty())
    assert len(span.attributes) == 12
    assert span.attributes["long"] == "x" * 20
    assert len(span.events) == 2
    assert span.dropped_attributes > 40
    assert span.attributes["rpc.status_code"] == "OK"


def test_samplers_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that the sampler drops does not record, and its ids go on all the same."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    server = MemoryTelemetry()
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x", timeout=10)
        eventually(server.lines)
    assert server.spans() == ()
    assert len(server.lines()[0]["trace_id"]) == 32


def test_tracestate_and_baggage_go_on() -> None:
    """What the quick way does not read, the propagator does: tracestate is the server's span's too."""
    server = MemoryTelemetry()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = [(("traceparent", parent), ("tracestate", "vendor=1")), (("traceparent", parent),)]
    with sync_server(server) as target:
        with grpc.insecure_channel(target) as bare:
            made: Any = bare
            for metadata in headers:
                made.unary_unary("/test.Service/returns")(b"x", metadata=metadata, timeout=10)
        eventually(lambda: len(server.spans()) == 2)
    spans: Any = server.spans()
    assert [span.context.trace_state.get("vendor") for span in spans] == ["1", None]
    assert {f"{span.parent.span_id:016x}" for span in spans} == {"b7ad6b7169203331"}


@pytest.mark.parametrize(
    "header",
    [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80_19c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319cxb7ad6b7169203331-01",
        "nonsense",
    ],
)
def test_a_broken_traceparent_starts_a_new_trace(header: str) -> None:
    """A traceparent that the specification refuses is no parent."""

    server = MemoryTelemetry()
    with sync_server(server) as target, grpc.insecure_channel(target) as bare:
        made: Any = bare
        made.unary_unary("/test.Service/returns")(b"x", metadata=(("traceparent", header),), timeout=10)
        eventually(server.spans)
    assert server.spans()[0].parent is None
