"""A span that anybody touches is the SDK's, with all its rules; what tells the outcome is never what they drop."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from observability import Telemetry
from observability.testing import MemoryTelemetry
from tests.observability.rpc import Sync, channel, sync_server

METHOD = "/test.Service/returns"


class Acting(Sync):
    """Does something with the current span."""

    def __init__(self, act: Callable[[Any], None], raises: bool = False) -> None:
        super().__init__()
        self._act = act
        self._raises = raises

    def returns(self, request: bytes, context: Any) -> bytes:
        self._act(trace.get_current_span())
        if self._raises:
            raise ValueError("broken")
        return request


def served(act: Callable[[Any], None], *, raises: bool = False, telemetry: Any = None) -> ReadableSpan:
    """The server's span of a call whose handler acts on it."""
    server = telemetry or MemoryTelemetry()
    with sync_server(server, Acting(act, raises)) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary(METHOD).future(b"x", timeout=60).code()
    (span,) = (span for span in server.spans() if span.kind is trace.SpanKind.SERVER)
    return span  # type: ignore[no-any-return]


def fill(span: Any) -> None:
    """More of everything than any limit below."""
    span.set_attributes({f"key {number}": "value" * 5 for number in range(20)})
    for number in range(20):
        span.add_event(f"event {number}", {f"key {number}": number for number in range(20)})
        span.add_link(trace.SpanContext(number + 1, number + 1, False), {f"key {n}": n for n in range(20)})


LIMITS = [
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
]


@pytest.mark.parametrize("variable", LIMITS)
def test_limits_hold(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit does to a call's span what it does to a span of the SDK's provider."""
    monkeypatch.setenv(variable, "12")
    plain = TracerProvider().get_tracer("test").start_span("plain")
    fill(plain)
    plain.end()
    assert isinstance(plain, ReadableSpan)
    span = served(fill)
    assert span.dropped_events == plain.dropped_events
    assert span.dropped_links == plain.dropped_links
    if variable in {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"}:
        assert len(span.attributes or {}) == 12
    for mine, its in zip(span.links, plain.links, strict=True):
        assert mine.attributes == its.attributes
    for mine_event, its_event in zip(span.events, plain.events, strict=True):
        assert mine_event.attributes == its_event.attributes
    shown = (span.attributes or {}).get("key 19")
    assert shown == (plain.attributes or {}).get("key 19") or "COUNT" in variable


def test_the_outcome_is_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, error.type and the exception event are there though the handler has filled every limit."""
    for variable in LIMITS:
        monkeypatch.setenv(variable, "12")
    span = served(fill, raises=True)
    attributes = span.attributes or {}
    assert (attributes["rpc.status_code"], attributes["error.type"]) == ("UNKNOWN", "UNKNOWN")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in span.events][-1] == "exception"


BAD: list[tuple[Any, Any]] = [
    (7, "a key that is no text"), ("bytes", b"\xff"), ("object", object()), ("mixed", [1, "a"]), ("", "empty"),
    ("surrogate", "\ud800"), ("none", None),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD, ids=[str(key) for key, _ in BAD])
def test_a_bad_attribute_loses_nothing(key: Any, value: Any) -> None:
    """Whatever a handler sets, its span is there, and so is that of the next call."""
    server = MemoryTelemetry()

    def act(span: Any) -> None:
        span.set_attribute(key, value)
        span.set_attribute("good", 1)

    with sync_server(server, Acting(act)) as target, channel(MemoryTelemetry(), target) as made:
        for _ in range(3):
            made.unary_unary(METHOD)(b"x", timeout=60)
    assert [(span.attributes or {})["good"] for span in server.spans()] == [1, 1, 1]
    assert server.value("telemetry_signal_failures_total") == 0


def test_threads_add_at_once() -> None:
    """Events and attributes that several threads add to a span are all on it."""

    def act(span: Any) -> None:
        threads = [
            threading.Thread(target=lambda n=n: [span.add_event(f"{n} {i}") for i in range(20)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len({event.name for event in served(act).events}) == 80


class Redacting(SpanProcessor):
    """Redacts spans at their start."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.ending: list[str] = []
        self.was_flushed = self.was_shut_down = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attribute("network.peer.address", "redacted")

    def _on_ending(self, span: Span) -> None:
        self.ending.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.was_flushed = True
        return True

    def shutdown(self) -> None:
        self.was_shut_down = True


def test_processors_see_every_span() -> None:
    """A processor that is added sees and changes each call's span, and is flushed and shut down."""
    server: Any = MemoryTelemetry()
    processor = Redacting()
    server.tracer_provider.add_span_processor(processor)
    span = served(lambda _: None, telemetry=server)
    assert (span.attributes or {})["network.peer.address"] == "redacted"
    assert processor.ended == ["test.Service/returns"]
    assert processor.ending == (processor.ended if hasattr(SpanProcessor, "_on_ending") else [])
    assert processor.was_flushed
    server.shutdown()
    assert processor.was_shut_down


class Hanging(SpanProcessor):
    """Never comes back."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.released.wait(60)

    def shutdown(self) -> None:
        self.released.wait(60)


def test_a_processor_that_hangs_is_left_behind() -> None:
    """Flush and shutdown take the time that they are given, and no more."""
    server: Any = MemoryTelemetry()
    hanging = Hanging()
    server.tracer_provider.add_span_processor(hanging)
    assert not server.force_flush(timeout_s=0.1)
    server.shutdown(timeout_s=0.1)
    assert not hanging.released.is_set()
    hanging.released.set()


GLOBAL = """
from opentelemetry import trace
from observability.testing import MemoryTelemetry
from tests.observability.rpc import channel, sync_server
from tests.observability.test_sdk_spans import Acting
server = MemoryTelemetry()
trace.set_tracer_provider(server.tracer_provider)
act = lambda span: trace.get_tracer("mine").start_span("mine").end()
with sync_server(server, Acting(act)) as target, channel(MemoryTelemetry(), target) as made:
    made.unary_unary("/test.Service/returns")(b"x", timeout=60)
mine, call = sorted(server.spans(), key=lambda span: span.name)
assert (mine.name, mine.parent.span_id) == ("mine", call.context.span_id), (mine, call)
"""


def test_the_global_provider() -> None:
    """Where the global provider is the telemetry's, a handler's own span is a child of the call's."""
    subprocess.run([sys.executable, "-c", GLOBAL], check=True, timeout=60)


def test_a_provider_that_is_there_already() -> None:
    """The spans of calls are made with it, and it is not shut down with the telemetry."""
    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    telemetry: Any = Telemetry("mine", tracer_provider=provider, registry=CollectorRegistry())
    with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary(METHOD)(b"x", timeout=60)
    telemetry.shutdown()
    provider.get_tracer("mine").start_span("later").end()
    assert [span.name for span in kept.get_finished_spans()] == ["test.Service/returns", "later"]


def test_nothing_is_recorded_where_instrumentation_is_suppressed() -> None:
    """A call within suppress_instrumentation() leaves no trace on the client."""
    client = MemoryTelemetry()
    with sync_server(MemoryTelemetry()) as target, channel(client, target) as made:
        with suppress_instrumentation():
            assert made.unary_unary(METHOD)(b"x", timeout=60) == b"x"
        assert client.spans() == ()
        assert client.value("grpc_client_started_total") == 0


class Feeding(SpanExporter):
    """Exports by a call over a channel that is observed by the telemetry whose spans it exports."""

    channel: Any

    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.names += [span.name for span in spans]
        self.channel.unary_unary(METHOD)(b"x", timeout=60)
        return SpanExportResult.SUCCESS


def test_an_exporter_does_not_feed_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's own calls are not recorded."""
    feeding = Feeding()
    monkeypatch.setattr("observability.exporters.make", lambda _: [feeding])
    telemetry: Any = Telemetry("fed", registry=CollectorRegistry())
    with sync_server(MemoryTelemetry()) as target, channel(telemetry, target) as made:
        feeding.channel = made
        made.unary_unary(METHOD)(b"x", timeout=60)
        for _ in range(3):
            telemetry.force_flush()
        telemetry.shutdown()
    assert feeding.names == ["test.Service/returns"]


@pytest.mark.parametrize(
    ("sampler", "argument", "sampled"),
    [("always_on", "", True), ("always_off", "", False), ("traceidratio", "0", False), ("traceidratio", "1", True),
     ("parentbased_always_off", "", False), ("parentbased_traceidratio", "1", True)],
)  # fmt: skip
def test_samplers(sampler: str, argument: str, sampled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a parent is sampled as OTEL_TRACES_SAMPLER says, and its server learns of it."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    client, seen = MemoryTelemetry(), []
    act = Acting(lambda span: seen.append(span.get_span_context()))
    with sync_server(MemoryTelemetry(), act) as target, channel(client, target) as made:
        made.unary_unary(METHOD)(b"x", timeout=60)
    assert len(client.spans()) == sampled
    assert seen[0].is_valid
    assert seen[0].trace_flags.sampled == sampled or sampler in {"always_on", "traceidratio"}


class Capital(TextMapPropagator):
    """A propagator whose header has capitals, like X-Ray's."""

    fields = {"X-Amzn-Trace-Id"}  # noqa: RUF012

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Context:
        values = getter.get(carrier, "X-Amzn-Trace-Id")
        if not values:
            return context or Context()
        trace_id, span_id = (int(part, 16) for part in values[0].split("-"))
        ids = trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(ids), context)

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        ids = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "X-Amzn-Trace-Id", f"{ids.trace_id:x}-{ids.span_id:x}")


@pytest.fixture
def capital() -> Iterator[None]:
    """It is the global propagator."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Capital())
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("capital")
def test_headers_with_capitals() -> None:
    """They go out in lower case, as gRPC wants, and come in by any case."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    with sync_server(server) as target, channel(client, target) as made:
        made.unary_unary(METHOD)(b"x", timeout=60)
    (theirs,), (ours,) = server.spans(), client.spans()
    assert theirs.parent is not None
    assert ours.context is not None
    assert theirs.parent.span_id == ours.context.span_id


def test_baggage_travels() -> None:
    """Baggage that the caller's context holds is in the handler's."""
    seen: list[object] = []
    act = Acting(lambda _: seen.append(baggage.get_baggage("tier")))
    with sync_server(MemoryTelemetry(), act) as target, channel(MemoryTelemetry(), target) as made:
        token = otel_context.attach(baggage.set_baggage("tier", "free"))
        made.unary_unary(METHOD)(b"x", timeout=60)
        otel_context.detach(token)
    assert seen == ["free"]


class Failing(Capital):
    """Raises whatever it is asked."""

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Context:
        raise KeyError("extract")

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        raise KeyError("inject")


def test_a_propagator_that_raises_changes_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is as without it, and the failure is counted."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Failing())
    server, client = MemoryTelemetry(), MemoryTelemetry()
    try:
        with sync_server(server) as target, channel(client, target) as made:
            assert made.unary_unary(METHOD)(b"x", timeout=60) == b"x"
    finally:
        propagate.set_global_textmap(before)
    for telemetry in (server, client):
        assert telemetry.value("telemetry_signal_failures_total", signal="tracing") == 1


def test_losses_are_at_zero_from_the_start() -> None:
    """Each counter of a loss has its series before anything is lost, so that the first loss shows in rate()."""
    telemetry = MemoryTelemetry()
    losses = {
        (sample.name, tuple(sample.labels.values()))
        for metric in telemetry.registry.collect()
        for sample in metric.samples
        if "dropped_total" in sample.name or "failures_total" in sample.name
    }
    assert losses >= {
        ("telemetry_records_dropped_total", ("queue_full",)), ("telemetry_records_dropped_total", ("shutdown",)),
        ("telemetry_spans_dropped_total", ("queue_full",)), ("telemetry_spans_dropped_total", ("shutdown",)),
        ("telemetry_spans_dropped_total", ("export_failed",)), ("telemetry_log_lines_dropped_total", ("queue_full",)),
        ("telemetry_log_lines_dropped_total", ("write_failed",)), ("telemetry_signal_failures_total", ("tracing",)),
        ("telemetry_signal_failures_total", ("metrics",)), ("telemetry_signal_failures_total", ("logs",)),
    }  # fmt: skip
