"""Spans are delivered by the exporter that is asked for, whole batches or not, and what is lost is counted."""

import sys
import time
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from prometheus_client import CollectorRegistry

from observability import Telemetry
from observability.otlp import Encoder
from observability.signals.spans import PlainSpan
from observability.testing import MemoryTelemetry
from tests.observability.conftest import Http, Receiver
from tests.observability.rpc import channel, sync_server

BIG = "x" * 1_000_000


class Counted:
    """Telemetry with its own counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.telemetry: Any = Telemetry("exporting", registry=self.registry)
        self.tracer = self.telemetry.tracer_provider.get_tracer("test")

    def counts(self) -> tuple[float, float]:
        """Spans that were exported, and that were not."""
        self.telemetry.shutdown()
        lost = self.registry.get_sample_value("telemetry_spans_dropped_total", {"reason": "export_failed"})
        return self.registry.get_sample_value("telemetry_spans_exported_total") or 0, lost or 0


def test_what_is_too_large_is_split(receiver: Receiver) -> None:
    """Spans of 9 MB, for a receiver that takes 4 MiB at once, all arrive; one that is larger itself is lost alone."""
    made = Counted()
    for number in range(9):
        made.tracer.start_span(str(number), attributes={"big": BIG}).end()
    made.tracer.start_span("too large", attributes={"big": BIG * 5}).end()
    assert made.counts() == (9, 1)
    assert sorted(receiver.names) == [str(number) for number in range(9)]


def test_what_the_receiver_rejects_is_lost(receiver: Receiver) -> None:
    """A partial success counts the rejected spans as lost, and the others as exported."""
    receiver.rejects = 3
    made = Counted()
    for number in range(10):
        made.tracer.start_span(str(number)).end()
    assert made.counts() == (7, 3)


def test_one_that_cannot_be_encoded_is_lost_alone(receiver: Receiver) -> None:
    """Of a hundred spans, one whose name is no UTF-8 loses no other."""
    made = Counted()
    for number in range(100):
        made.tracer.start_span("\ud800" if number == 50 else str(number)).end()
    assert made.counts() == (99, 1)
    assert len(receiver.names) == 99


@pytest.mark.usefixtures("silent")
def test_the_timeout_is_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=200 gives up on a silent receiver long before 200 seconds."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "200000")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "200")
    made = Counted()
    made.tracer.start_span("made").end()
    started = time.monotonic()
    assert not made.telemetry.force_flush(0.01)
    assert made.telemetry.force_flush(60)
    assert time.monotonic() - started < 30
    assert made.counts() == (0, 1)


def test_otlp_over_http(http: Http) -> None:
    """OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf delivers the spans of calls over HTTP."""
    made = Counted()
    with sync_server(made.telemetry) as target, channel(MemoryTelemetry(), target) as calls:
        calls.unary_unary("/test.Service/returns")(b"x", timeout=60)
    made.tracer.start_span("made").end()
    assert made.counts() == (2, 0)
    assert sorted(http.names) == ["made", "test.Service/returns"]


def test_http_is_an_extra(
    http: Http, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked for and not installed, it is one error line that names the extra, and calls go on."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    made = Counted()
    with sync_server(made.telemetry) as target, channel(MemoryTelemetry(), target) as calls:
        for _ in range(2):
            assert calls.unary_unary("/test.Service/returns")(b"x", timeout=60) == b"x"
            made.telemetry.force_flush()
    made.telemetry.shutdown()
    assert len([line for line in caplog.messages if "`http`" in line]) == 1
    assert http.names == []


SCOPE = InstrumentationScope("observability", "", "https://example.org")
RESOURCE = Resource({"service.name": "encoded"})
REMOTE = SpanContext(3, 4, True, TraceFlags(1))
ATTRIBUTES = {
    "rpc.system.name": "grpc",
    "rpc.method": "a.B/C",
    "network.peer.port": 1,
    "rpc.grpc.deadline_ms": 5,
}
SPANS: list[dict[str, Any]] = [
    {"attributes": ATTRIBUTES},
    {"attributes": ATTRIBUTES, "parent": REMOTE},
    {"parent": SpanContext(3, 4, False), "kind": SpanKind.CLIENT, "attributes": {"rpc.method": "é"}},
    {"status": Status(StatusCode.ERROR, "no such book"), "attributes": {"error.type": "NOT_FOUND"}},
    {"attributes": {"rpc.request.header.x-tenant": ("a", "b")}},
    {"attributes": {"a": True, "b": 1, "c": 1.5, "d": b"x", "e": 1 << 62}},
    {"context": SpanContext(1, 99, False, TraceFlags(1), TraceState([("a", "b")]))},
    {"events": [Event("exception", {"exception.type": "KeyError"}, 5)]},
]


@pytest.mark.parametrize("kind", [PlainSpan, ReadableSpan])
def test_the_faster_encoding_is_the_sdks(kind: Any) -> None:
    """It gives the messages that OpenTelemetry's own encoder gives, whatever is on a span."""
    spans = [
        kind("a.B/C", **{"context": SpanContext(1, number, False, TraceFlags(1)), "kind": SpanKind.SERVER} | given,
             resource=RESOURCE, start_time=10, end_time=20, instrumentation_scope=SCOPE)
        for number, given in enumerate(SPANS, 2)
        if kind is ReadableSpan or "events" not in given  # which a plain span never has
    ]  # fmt: skip
    encoded = Encoder().encode(spans)
    ours = {span.span_id: span for part in encoded for scope in part.scope_spans for span in scope.spans}
    (resource,) = encode_spans(spans).resource_spans
    for part in encoded:
        assert part.resource == resource.resource
        assert part.scope_spans[0].scope == resource.scope_spans[0].scope
        assert part.scope_spans[0].schema_url == resource.scope_spans[0].schema_url
    for span in resource.scope_spans[0].spans:
        mine = ours.pop(span.span_id)
        mine.status.SetInParent()  # an absent status is an empty one
        assert mine == span
    assert not ours
