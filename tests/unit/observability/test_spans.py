"""Spans of calls are to handlers and exporters what the SDK's own are."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import Aio, Sync, aio_server_thread, channel, sync_server

OTHER = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))


def fill(span: Any) -> None:
    """All that a handler may do with its span."""
    span.set_attribute("text", "a")
    span.set_attributes({"number": 1, "ratio": 0.5, "flag": True, "list": ["a", "b"]})
    span.add_event("happened", {"how": "well"}, timestamp=5)
    span.add_link(OTHER, {"why": "related"})
    span.update_name("renamed")
    span.set_status(Status(StatusCode.ERROR, "broken"))
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "too late: OK is final")


class Touches(Sync):
    def returns(self, request: bytes, context: Any) -> bytes:
        span = trace.get_current_span()
        assert span.is_recording()
        fill(span)
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


def test_a_handler_fills_its_span_as_it_would_the_sdks() -> None:
    """Attributes, events, links, name and status that a handler sets are those that the SDK's span would have."""
    ours = call(MemoryTelemetry(), Touches())
    sdks: Any = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("call")
    fill(sdks)
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
    fill(late)
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


METHOD = "/test.Service/returns"
Look = Callable[[Any], None]


class Looking(Sync):
    """Looks at the context of a call that it answers."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look

    def returns(self, request: bytes, context: Any) -> bytes:
        self._look(context)
        return request


class AioLooking(Aio):
    """The same of an asyncio server."""

    def __init__(self, look: Look) -> None:
        self._look = look

    async def returns(self, request: bytes, context: Any) -> bytes:
        self._look(context)
        return request


def ask(client: MemoryTelemetry, target: str, metadata: Any = None) -> None:
    """Call the method by a blocking channel."""
    with channel(client, target) as made:
        assert made.unary_unary(METHOD)(b"x", metadata=metadata) == b"x"


def ask_aio(client: MemoryTelemetry, target: str, metadata: Any = None) -> None:
    """The same by an asyncio channel."""

    async def call() -> None:
        interceptors = client.aio_client_interceptors(target)
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as bare:
            made: Any = bare
            assert await made.unary_unary(METHOD)(b"x", metadata=metadata) == b"x"

    asyncio.run(call())


EDGES: dict[str, tuple[Any, Any, Callable[..., None]]] = {
    "threaded": (sync_server, Looking, ask),
    "asyncio": (aio_server_thread, AioLooking, ask_aio),
}
edges = pytest.mark.parametrize("edge", EDGES)


def calling(
    edge: str, client: MemoryTelemetry, server: MemoryTelemetry, look: Look, metadata: Any = None
) -> None:
    """Make one call, both sides threaded or both asyncio; look is called with the handler's context."""
    serving, looking, asking = EDGES[edge]
    with serving(server, looking(look)) as target:
        asking(client, target, metadata)


HIGH, LOW = "f" * 32, f"{1:032x}"  # what a ratio goes by


@edges
@pytest.mark.parametrize(
    ("sampler", "argument", "trace_id", "parent", "sampled"),
    [
        ("always_on", "", LOW, "00", True), ("always_on", "", LOW, "", True),
        ("always_off", "", LOW, "01", False), ("always_off", "", LOW, "", False),
        ("traceidratio", "0.5", LOW, "00", True), ("traceidratio", "0.5", HIGH, "01", False),
        ("traceidratio", "1", LOW, "", True), ("traceidratio", "0", LOW, "", False),
        ("parentbased_traceidratio", "0", LOW, "01", True), ("parentbased_traceidratio", "1", LOW, "00", False),
        ("parentbased_traceidratio", "1", LOW, "", True), ("parentbased_traceidratio", "0", LOW, "", False),
    ],
)  # fmt: skip
def test_samplers_decide(
    sampler: str,
    argument: str,
    trace_id: str,
    parent: str,
    sampled: bool,
    edge: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both sides sample as OTEL_TRACES_SAMPLER says of their parent; ids, flag and tracestate go on."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    server, client = MemoryTelemetry(), MemoryTelemetry()
    sent: dict[str, str] = {}
    spans: list[Any] = []

    def look(context: Any) -> None:
        sent.update(context.invocation_metadata())
        spans.append(trace.get_current_span())

    above = Context()
    if parent:
        flags, state = TraceFlags(int(parent)), TraceState([("vendor", "1")])
        ids = SpanContext(int(trace_id, 16), 1, is_remote=True, trace_flags=flags, trace_state=state)
        above = trace.set_span_in_context(trace.NonRecordingSpan(ids))
    token = otel_context.attach(above)
    calling(edge, client, server, look)
    otel_context.detach(token)
    assert [len(client.spans()), len(server.spans())] == [sampled, sampled]
    assert int(sent["traceparent"][-2:], 16) & 1 == sampled
    assert sent["traceparent"][3:35] == trace_id or not parent
    assert sent.get("tracestate") == ("vendor=1" if parent else None)
    context = spans[0].get_span_context()
    assert context.is_valid
    assert context.trace_flags.sampled == sampled
    assert server.lines()[0]["trace_id"] == client.lines()[0]["trace_id"] == sent["traceparent"][3:35]


class Custom(Sampler):
    """What custom samplers have in common; each is made of OTEL_TRACES_SAMPLER_ARG."""

    def __init__(self, _: str) -> None:
        self.calls = 0

    def get_description(self) -> str:
        return "Custom"


class Adding(Custom):
    """Adds attributes, some that are not allowed, and a trace state."""

    def should_sample(  # type: ignore[override]
        self, parent_context: Any, trace_id: int, name: str, kind: Any, attributes: Any, *_: Any
    ) -> SamplingResult:
        attributes["rule"] = "x"
        attributes["list"] = [1, 2]
        attributes |= {f"key {number}": object() for number in range(200)}
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, TraceState([("rule", "1")]))


class Broken(Custom):
    """Raises."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        raise ValueError("broken")


class Curious(Custom):
    """Asks for the current span, as a log line does, while it decides on it."""

    made: list["Curious"] = []  # noqa: RUF012

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self.made.append(self)

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        self.calls += 1
        logging.getLogger("test").warning("deciding")
        span = trace.get_current_span()
        span.set_attribute("early", 1)
        assert not span.is_recording()
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"decided": True})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samplers above are installed, under the names of their classes."""
    folder = tmp_path / "samplers-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: samplers\nVersion: 1.0\n")
    names = "".join(f"{kind.__name__} = {__name__}:{kind.__name__}\n" for kind in (Adding, Broken, Curious))
    (folder / "entry_points.txt").write_text(f"[opentelemetry_traces_sampler]\n{names}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@edges
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("touched", [False, True])
def test_what_a_sampler_adds(touched: bool, edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler's attributes are on the span by the SDK's rules, and its trace state goes out with the call."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "Adding")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "300")
    client, server = MemoryTelemetry(), MemoryTelemetry()
    sent: dict[str, str] = {}

    def look(context: Any) -> None:
        sent.update(context.invocation_metadata())
        if touched:
            trace.get_current_span().set_attribute("touched", True)

    for _ in range(2):  # what a sampler does to the attributes of one call is nothing to the next
        calling(edge, client, server, look)
    assert sent["tracestate"] == "rule=1"
    spans: Any = [*client.spans(), *server.spans()]
    assert len(spans) == 4
    for span in spans:
        assert span.context.trace_state.get("rule") == "1"
        assert span.attributes["rule"] == "x"
        assert span.attributes["list"] == (1, 2)
        assert span.attributes["key 199"] is None
        assert span.attributes["rpc.method"] == "test.Service/returns"
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "100")
    limited = MemoryTelemetry()
    calling(edge, MemoryTelemetry(), limited, look)
    (short,) = limited.spans()
    assert len(short.attributes or {}) == 100
    assert short.dropped_attributes > 100


@edges
@pytest.mark.usefixtures("installed")
def test_a_sampler_that_raises_changes_no_call(edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is as without it, its span is none, and the failure is counted once on each side."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "Broken")
    client, server = MemoryTelemetry(), MemoryTelemetry()
    calling(edge, client, server, lambda _: fill(trace.get_current_span()))
    for telemetry in (client, server):
        assert telemetry.spans() == ()
        assert telemetry.value("telemetry_signal_failures_total", signal="tracing") == 1
        assert [line.get("trace_id") for line in telemetry.lines()] == [None]


@edges
@pytest.mark.usefixtures("installed")
def test_a_sampler_may_look_at_the_current_span(edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that asks for the current span, or logs, decides once on each, and finds none there yet."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "Curious")
    server = MemoryTelemetry()
    server.capture_logs("WARNING")
    calling(edge, MemoryTelemetry(), server, lambda _: fill(trace.get_current_span()))
    sampler = Curious.made[-2]  # the server's: the client is made after it
    (span,) = server.spans()
    server.shutdown()
    assert (sampler.calls, Curious.made[-1].calls) == (1, 1)
    attributes = span.attributes or {}
    assert attributes["decided"] is attributes["flag"] is True
    assert "early" not in attributes
    assert server.value("telemetry_signal_failures_total") == 0


class Capital(TextMapPropagator):
    """A propagator whose header has capitals, like X-Ray's."""

    fields = {"X-Amzn-Trace-Id"}  # noqa: RUF012

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Context:
        values = getter.get(carrier, "X-Amzn-Trace-Id")
        if not values:
            return context or Context()
        trace_id, span_id = (int(part, 16) for part in values[0].split("-"))
        ids = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(ids), context)

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        ids = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "X-Amzn-Trace-Id", f"{ids.trace_id:x}-{ids.span_id:x}")


class Failing(Capital):
    """Raises whatever it is asked."""

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Context:
        raise KeyError("extract")

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        raise KeyError("inject")


class Sending(Capital):
    """Sends a header that may be none, and a good one after it."""

    def __init__(self, key: Any, value: Any) -> None:
        self._header = key, value

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        setter.set(carrier, *self._header)
        super().inject(carrier, context, setter)


@pytest.fixture
def propagator() -> Iterator[Callable[[TextMapPropagator], None]]:
    """Sets the global propagator, until the test ends."""
    before = propagate.get_global_textmap()
    yield propagate.set_global_textmap
    propagate.set_global_textmap(before)


@edges
def test_headers_with_capitals(propagator: Any, edge: str) -> None:
    """They go out in lower case, as gRPC wants, and come in by any case."""
    propagator(Capital())
    server, client = MemoryTelemetry(), MemoryTelemetry()
    sent: dict[str, str] = {}
    calling(edge, client, server, lambda context: sent.update(context.invocation_metadata()))
    (theirs,), (ours,) = server.spans(), client.spans()
    assert theirs.parent is not None
    assert ours.context is not None
    assert theirs.parent.span_id == ours.context.span_id
    assert theirs.parent.is_remote
    assert "x-amzn-trace-id" in sent
    assert "traceparent" not in sent


@edges
@pytest.mark.parametrize("touched", [False, True])
def test_baggage_travels(touched: bool, edge: str) -> None:
    """W3C baggage of the caller's context is in the handler's, beside the span, and goes on from there."""
    seen: list[object] = []

    def look(_: Any) -> None:
        if touched:
            trace.get_current_span().set_attribute("touched", True)
        sent: dict[str, str] = {}
        propagate.inject(sent)
        seen.extend((baggage.get_baggage("tier"), baggage.get_baggage("word"), sent["baggage"]))

    server, client = MemoryTelemetry(), MemoryTelemetry()
    token = otel_context.attach(baggage.set_baggage("word", "grün", baggage.set_baggage("tier", "free")))
    calling(edge, client, server, look)
    otel_context.detach(token)
    assert seen == ["free", "grün", "tier=free,word=gr%C3%BCn"]
    assert server.spans()[0].parent.span_id == client.spans()[0].context.span_id  # type: ignore[union-attr]


@edges
def test_a_propagator_that_raises_changes_no_call(propagator: Any, edge: str) -> None:
    """The call is as without it, each side's span is there, and the failure is counted on both."""
    propagator(Failing())
    server, client = MemoryTelemetry(), MemoryTelemetry()
    calling(edge, client, server, lambda _: None)
    for telemetry in (server, client):
        assert telemetry.value("telemetry_signal_failures_total", signal="tracing") == 1
        assert [span.parent for span in telemetry.spans()] == [None]


@edges
@pytest.mark.parametrize(
    ("key", "value"),
    [("uberctx-user name", "x"), ("key", "grün"), ("key", "a\nb"), ("key", 5), ("key", None), ("key-bin", "x"),
     (":authority", "x"), ("", "x"), (None, "x")],
)  # fmt: skip
def test_a_header_that_grpc_refuses_stays_behind(propagator: Any, key: Any, value: Any, edge: str) -> None:
    """A propagator's header that would fail the call is left out and counted; the others go out."""
    propagator(Sending(key, value))
    server, client = MemoryTelemetry(), MemoryTelemetry()
    calling(edge, client, server, lambda _: None, (("mine", "1"),))
    assert server.spans()[0].parent.span_id == client.spans()[0].context.span_id  # type: ignore[union-attr]
    assert client.value("telemetry_signal_failures_total", signal="tracing") == 1
