"""A span that code touches is the SDK's, with all its rules, which never drop what says how a call ended."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

import observability
from observability import Telemetry
from observability.testing import MemoryTelemetry
from tests.unit.observability.conftest import Receiver
from tests.unit.observability.rpc import Aio, Sync, aio_server_thread, channel, sync_server

METHOD = "/test.Service/returns"
Act = Callable[[Any], None]


class Acting(Sync):
    """Does something with the current span."""

    def __init__(self, act: Act, raises: bool = False) -> None:
        super().__init__()
        self._act = act
        self._raises = raises

    def returns(self, request: bytes, context: Any) -> bytes:
        self._act(trace.get_current_span())
        if self._raises:
            raise ValueError("broken")
        return request


class AioActing(Aio):
    """The same of an asyncio server."""

    def __init__(self, act: Act, raises: bool = False) -> None:
        self._act = act
        self._raises = raises

    async def returns(self, request: bytes, context: Any) -> bytes:
        self._act(trace.get_current_span())
        if self._raises:
            raise ValueError("broken")
        return request


SERVERS: dict[str, tuple[Any, Any]] = {
    "threaded": (sync_server, Acting),
    "asyncio": (aio_server_thread, AioActing),
}
edges = pytest.mark.parametrize("edge", SERVERS)


def serve(
    telemetry: Any, act: Act, *, raises: bool = False, edge: str = "threaded", timeout_s: float | None = None
) -> None:
    """Let a server that is observed answer one call, with a handler that acts on its span."""
    server, acting = SERVERS[edge]
    with server(telemetry, acting(act, raises)) as target, channel(MemoryTelemetry(), target) as made:
        code = made.unary_unary(METHOD).future(b"x", timeout=timeout_s).code()
    assert code is (grpc.StatusCode.UNKNOWN if raises else grpc.StatusCode.OK)


def served(act: Act, *, raises: bool = False, telemetry: Any = None, edge: str = "threaded") -> ReadableSpan:
    """The server's span of such a call."""
    server = telemetry or MemoryTelemetry()
    serve(server, act, raises=raises, edge=edge)
    (span,) = server.spans()
    return span  # type: ignore[no-any-return]


def served_by_sdk(act: Act, *, raises: bool, edge: str, sampler: Any = None) -> ReadableSpan:
    """The same, where all spans are those of a plain provider of the SDK."""
    kept, provider = InMemorySpanExporter(), TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    telemetry = MemoryTelemetry(tracer_provider=provider)
    serve(telemetry, act, raises=raises, edge=edge)
    assert telemetry.spans() == ()
    (span,) = kept.get_finished_spans()
    return span


def content(span: Any) -> dict[str, Any]:
    """All that two spans of the same call must have in common, in their order."""

    def listed(attributes: Any) -> list[Any]:
        differs = {"network.peer.port", "exception.stacktrace"}
        return [(key, value) for key, value in (attributes or {}).items() if key not in differs]

    return {
        "name": (span.name, span.kind),
        "status": (span.status.status_code, span.status.description),
        "attributes": (listed(span.attributes), len(span.attributes or {}), span.dropped_attributes),
        "events": [
            (it.name, listed(it.attributes), len(it.attributes), it.dropped_attributes) for it in span.events
        ],
        "links": [(it.context, listed(it.attributes), it.dropped_attributes) for it in span.links],
        "dropped": (span.dropped_events, span.dropped_links),
    }


def nothing(span: Any) -> None:
    """Leave the span alone."""


def fill(span: Any) -> None:
    """More of everything than any limit below."""
    many = {f"key {number}": "value" * 20 for number in range(80)}
    span.set_attributes(many)
    for number in range(80):
        span.add_event(f"event {number}", {"key": number})
        span.add_link(trace.SpanContext(number + 1, 1, False), {"key": number})
    span.add_event("last", many)
    span.add_link(trace.SpanContext(1, 1, False), many)


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


@edges
@pytest.mark.parametrize("limit", ["0", "3", "60"])
@pytest.mark.parametrize("variable", LIMITS)
def test_limits_hold(variable: str, limit: str, edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit does to a call's span, touched or not, what it does to a span of the SDK's provider.

    Low ones and high ones: spans are light only where no limit could touch what we set.
    """
    monkeypatch.setenv(variable, limit)
    for act, raises in ((nothing, False), (nothing, True), (fill, False), (fill, True)):
        ours = served(act, raises=raises, edge=edge)
        assert content(ours) == content(served_by_sdk(act, raises=raises, edge=edge))


@edges
@pytest.mark.parametrize("act", [nothing, fill])
def test_the_outcome_is_never_dropped(act: Act, edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, error.type and the exception's type and message stay, however low the limits of counts are."""
    for variable in LIMITS:
        if "LENGTH" not in variable:
            monkeypatch.setenv(variable, "2")
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "1")
    server = MemoryTelemetry()
    serve(server, act, raises=True, edge=edge, timeout_s=60)
    (span,) = server.spans()
    (event,) = span.events
    assert span.attributes == {"rpc.status_code": "UNKNOWN", "error.type": "UNKNOWN"}
    assert span.status.status_code is trace.StatusCode.ERROR
    assert event.name == "exception"
    assert event.attributes == {"exception.type": "ValueError", "exception.message": "broken"}


class Odd:
    """Is no value for an attribute, but has a text."""

    def __str__(self) -> str:
        return "odd"


BAD: dict[str, tuple[Any, Any]] = {
    "key is a number": (7, "x"), "key is empty": ("", "x"), "key is None": (None, "x"), "bytes": ("k", b"\xff"),
    "object": ("k", object()), "object with a text": ("k", Odd()), "mixed list": ("k", [1, "a", None]),
    "mapping": ("k", {"a": {1: Odd()}}), "surrogate": ("k", "\ud800"), "None": ("k", None),
}  # fmt: skip


@edges
@pytest.mark.parametrize("name", BAD)
def test_a_bad_attribute_is_what_the_sdk_makes_of_it(name: str, edge: str) -> None:
    """Keys that are no text and values that are not allowed are on a call's span as on a span of the SDK."""
    key, value = BAD[name]

    def act(span: Any) -> None:
        span.set_attribute(key, value)
        span.set_attributes({key: value, "good": 1})
        span.add_event("event", {key: value, "good": 1})
        span.add_link(trace.SpanContext(1, 1, False), {key: value, "good": 1})

    server = MemoryTelemetry()
    ours = served(act, edge=edge, telemetry=server)
    text = str(content(ours))
    assert "good" in text
    assert text == str(content(served_by_sdk(act, raises=False, edge=edge)))
    assert server.value("telemetry_signal_failures_total") == 0


def test_a_bad_span_loses_no_other(receiver: Receiver) -> None:
    """A span that cannot be encoded is counted as lost; the spans around it are delivered with what can be."""
    acts: list[Act] = [
        lambda span: span.set_attribute("value", "first"),
        lambda span: span.update_name("\ud800"),
        lambda span: span.set_attributes({"surrogate": "\ud800", "value": "third"}),
        lambda span: span.set_attributes({"bytes": b"\xff", "value": "fourth"}),
    ]
    todo = iter(acts)
    server: Any = Telemetry("test", registry=CollectorRegistry())

    def act(span: Any) -> None:
        next(todo)(span)

    with sync_server(server, Acting(act)) as target, channel(MemoryTelemetry(), target) as made:
        for _ in acts:
            made.unary_unary(METHOD)(b"x")
    assert server.force_flush(60)
    assert [attributes["value"] for attributes in receiver.attributes] == ["first", "third", "fourth"]
    lost = server.registry.get_sample_value("telemetry_spans_dropped_total", {"reason": "export_failed"})
    assert lost == 1
    server.shutdown()


class Unsayable(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Raises what UTF-8 cannot encode, as the name of a file may be."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        raise OSError("no file \udc80")


def test_an_exception_that_is_not_utf_8_is_delivered(receiver: Receiver) -> None:
    """The span of a call that fails with such words reaches the collector, with what is not UTF-8 escaped."""
    kept = InMemorySpanExporter()

    async def call(client: Telemetry) -> None:
        interceptors = [*client.aio_client_interceptors(), Unsayable()]
        async with grpc.aio.insecure_channel("localhost:1", interceptors=interceptors) as bare:
            made: Any = bare
            with pytest.raises(OSError, match="no file"):
                await made.unary_unary(METHOD)(b"x")

    with Telemetry("test", registry=CollectorRegistry()) as client:
        asyncio.run(call(client))
        assert client.force_flush(60)
        provider: Any = client.tracer_provider
        provider.add_span_processor(SimpleSpanProcessor(kept))
        asyncio.run(call(client))
    assert receiver.names == ["test.Service/returns"] * 2
    (span,) = kept.get_finished_spans()
    assert span.status.description == "no file \\udc80"
    assert (span.events[0].attributes or {})["exception.message"] == "no file \\udc80"


@edges
def test_threads_add_at_once(edge: str) -> None:
    """Events and attributes that several threads add to a span at once, the first of it, are all on it."""
    barrier = threading.Barrier(4)

    def add(span: Any, thread: int) -> None:
        barrier.wait(60)
        for number in range(25):
            span.add_event(f"{thread} {number}")
            span.set_attribute(f"{thread} {number}", number)

    def act(span: Any) -> None:
        threads = [threading.Thread(target=add, args=(span, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    span = served(act, edge=edge)
    names = {f"{thread} {number}" for thread in range(4) for number in range(25)}
    assert {event.name for event in span.events} == names
    assert names < set(span.attributes or {})
    assert (span.dropped_attributes, span.dropped_events) == (0, 0)


class Hook(grpc.UnaryUnaryClientInterceptor):
    """A custom interceptor inside of ours, which touches the call's span."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        fill(trace.get_current_span())
        return continuation(client_call_details, request)


class AioHook(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """The same of an asyncio client."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        fill(trace.get_current_span())
        return await continuation(client_call_details, request)


def test_a_hook_touches_the_clients_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an inner interceptor adds is on the client's span, within the limits, and so is the outcome."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "5")
    client = MemoryTelemetry()

    async def call(target: str) -> None:
        interceptors = [*client.aio_client_interceptors(target), AioHook()]
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as bare:
            made: Any = bare
            await made.unary_unary(METHOD)(b"x")

    with sync_server(MemoryTelemetry()) as target:
        with grpc.insecure_channel(target) as bare:
            made: Any = grpc.intercept_channel(bare, *client.client_interceptors(target), Hook())
            made.unary_unary(METHOD)(b"x")
        asyncio.run(call(target))
    for span in client.spans():
        assert list(span.attributes or {}) == ["key 76", "key 77", "key 78", "key 79", "rpc.status_code"]
    assert len(client.spans()) == 2


class Redacting(SpanProcessor):
    """Redacts spans at their start, and keeps what it has seen of them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any]] = []
        self.was_flushed = self.was_shut_down = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.seen.append(("start", span.name, None))
        span.set_attribute("network.peer.address", "redacted")

    def _on_ending(self, span: Span) -> None:
        self.seen.append(("ending", span.name, (span.attributes or {})["rpc.status_code"]))

    def on_end(self, span: ReadableSpan) -> None:
        self.seen.append(("end", span.name, (span.attributes or {})["rpc.status_code"]))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.was_flushed = True
        return True

    def shutdown(self) -> None:
        self.was_shut_down = True


@edges
def test_processors_see_every_span(edge: str) -> None:
    """A processor that is added sees a call's span start and end, redacts it, and is flushed and shut down."""
    server: Any = MemoryTelemetry()
    processor = Redacting()
    server.tracer_provider.add_span_processor(processor)
    span = served(lambda _: processor.seen.append(("handler", "", None)), telemetry=server, edge=edge)
    name = "test.Service/returns"
    ending = [("ending", name, "OK")] if hasattr(SpanProcessor, "_on_ending") else []
    assert processor.seen == [("start", name, None), ("handler", "", None), *ending, ("end", name, "OK")]
    assert (span.attributes or {})["network.peer.address"] == "redacted"
    assert processor.was_flushed
    server.shutdown()
    assert processor.was_shut_down


class Raising(Redacting):
    """Raises in one of its methods."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, self.broken)

    def broken(self, *_: Any, **__: Any) -> Any:
        raise ValueError("broken")


@edges
@pytest.mark.parametrize("method", ["on_start", "_on_ending", "on_end", "force_flush", "shutdown"])
def test_a_processor_that_raises_is_in_nobodys_way(method: str, edge: str) -> None:
    """The call, its exported span and the next processor are as without it, and the failure is counted."""
    server: Any = MemoryTelemetry()
    next_one = Redacting()
    server.tracer_provider.add_span_processor(Raising(method))
    server.tracer_provider.add_span_processor(next_one)
    span = served(nothing, telemetry=server, edge=edge)
    assert (span.attributes or {})["rpc.status_code"] == "OK"
    assert server.lines()[0]["span_id"] == f"{span.context.span_id:016x}"  # type: ignore[union-attr]
    assert [moment for moment, _, _ in next_one.seen][::2] == ["start", "end"]
    assert next_one.was_flushed
    server.shutdown()
    assert next_one.was_shut_down
    assert server.value("telemetry_signal_failures_total", signal="tracing") >= 1


def test_the_shutdown_of_the_provider_alone_loses_no_call() -> None:
    """The spans of calls that have ended are made, and reach the processors, before these are shut down."""
    server: Any = MemoryTelemetry()
    processor = Redacting()
    server.tracer_provider.add_span_processor(processor)
    serve(server, nothing)
    server.tracer_provider.shutdown()
    assert processor.seen[-1][0] == "end"
    assert processor.was_shut_down
    server.shutdown()


class Hanging(SpanProcessor):
    """Never comes back."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.released.wait(60)

    def shutdown(self) -> None:
        self.released.wait(60)


def test_a_processor_that_hangs_is_left_behind() -> None:
    """Flush and shutdown take the time that they are given, and the exporter has the spans all the same."""
    server: Any = MemoryTelemetry()
    hanging = Hanging()
    server.tracer_provider.add_span_processor(hanging)
    serve(server, nothing)
    assert not server.force_flush(timeout_s=0.1)
    server.shutdown(timeout_s=0.1)
    assert not hanging.released.is_set()
    hanging.released.set()
    assert len(server.spans()) == 1


def python(code: str) -> None:
    """Run the code in a separate process, where the global provider may be set."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


GLOBAL = """
from opentelemetry import trace
from observability.testing import MemoryTelemetry
from tests.unit.observability.test_sdk_spans import serve
server = MemoryTelemetry()
trace.set_tracer_provider(server.tracer_provider)
def act(span):
    with trace.get_tracer("mine").start_as_current_span("mine"):
        trace.get_tracer("mine").start_span("inner").end()
for edge in ("threaded", "asyncio"):
    serve(server, act, edge=edge)
spans = server.spans()
for trace_id in {span.context.trace_id for span in spans}:
    inner, mine, call = sorted((it for it in spans if it.context.trace_id == trace_id), key=lambda it: it.name)
    assert [it.name for it in (inner, mine, call)] == ["inner", "mine", "test.Service/returns"]
    assert inner.parent.span_id == mine.context.span_id
    assert mine.parent.span_id == call.context.span_id
assert len(spans) == 6
"""


def test_the_global_provider() -> None:
    """Where the global provider is the telemetry's, a handler's own spans are children of the call's."""
    python(GLOBAL)


THEIRS = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from observability.testing import MemoryTelemetry
from tests.unit.observability.test_sdk_spans import serve
kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(kept))
early = {early}
if not early:
    trace.set_tracer_provider(provider)
server = MemoryTelemetry(tracer_provider=trace.get_tracer_provider())
if early:
    trace.set_tracer_provider(provider)
def act(span):
    span.set_attribute("touched", True)
    trace.get_tracer("mine").start_span("mine").end()
serve(server, act)
server.shutdown()
trace.get_tracer("mine").start_span("later").end()
assert server.spans() == ()
mine, call, later = kept.get_finished_spans()
assert (mine.name, call.name, later.name) == ("mine", "test.Service/returns", "later")
assert mine.parent.span_id == call.context.span_id
assert call.attributes["touched"] and call.attributes["rpc.status_code"] == "OK"
"""


@pytest.mark.parametrize("early", [False, True])
def test_a_provider_that_is_there_already(early: bool) -> None:
    """Call spans are made in the global provider, even one set later, which outlives the telemetry."""
    python(THEIRS.replace("{early}", str(early)))


def test_nothing_is_recorded_where_instrumentation_is_suppressed() -> None:
    """A call within suppress_instrumentation() leaves no trace on a client, and none of ours in the headers."""
    client = MemoryTelemetry()
    seen: list[str] = []

    class Sees(Sync):
        def returns(self, request: bytes, context: Any) -> bytes:
            seen.extend(key for key, _ in context.invocation_metadata())
            return request

    async def call(target: str) -> None:
        interceptors = client.aio_client_interceptors(target)
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as bare:
            made: Any = bare
            assert await made.unary_unary(METHOD)(b"x") == b"x"
            assert [it async for it in made.stream_stream("/test.Service/count")(iter([b"x"]))] == [b"x"]

    with (
        sync_server(MemoryTelemetry(), Sees()) as target,
        channel(client, target) as made,
        suppress_instrumentation(),
    ):
        assert made.unary_unary(METHOD)(b"x") == b"x"
        assert list(made.stream_stream("/test.Service/count")(iter([b"x"]))) == [b"x"]
        asyncio.run(call(target))
    assert client.spans() == ()
    assert client.lines() == []
    assert client.value("grpc_client_started_total") == 0
    assert "traceparent" not in seen


class Feeding(SpanExporter):
    """Exports by a call over a channel that is observed by the telemetry whose spans it exports."""

    channel: Any

    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.names += [span.name for span in spans]
        self.channel.unary_unary(METHOD)(b"x")
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize("way", ["telemetry", "simple processor", "batch processor"])
def test_an_exporter_does_not_feed_itself(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that an exporter makes are not recorded, whoever runs it."""
    feeding = Feeding()
    monkeypatch.setattr(
        "observability.signals.exporters.make", lambda _: [feeding] if way == "telemetry" else []
    )
    telemetry: Any = Telemetry("fed", registry=CollectorRegistry())
    if way != "telemetry":
        processor = SimpleSpanProcessor if way == "simple processor" else BatchSpanProcessor
        telemetry.tracer_provider.add_span_processor(processor(feeding))
    with sync_server(MemoryTelemetry()) as target, channel(telemetry, target) as made:
        feeding.channel = made
        made.unary_unary(METHOD)(b"x")
        for _ in range(3):
            assert telemetry.force_flush(60)
        telemetry.shutdown(60)
    assert feeding.names == ["test.Service/returns"]
    labels = {"grpc_type": "unary", "grpc_service": "test.Service", "grpc_method": "returns"}
    assert telemetry.registry.get_sample_value("grpc_client_started_total", labels) == 1


SIGNALS = {
    "client", "exclude", "export", "hook", "http", "journal", "logs", "metrics", "public_endpoint", "redact", "server",
    "stack", "tracing",
}  # fmt: skip
LOSSES = {
    "telemetry_records_dropped_total": {"queue_full", "shutdown"},
    "telemetry_spans_dropped_total": {"queue_full", "shutdown", "export_failed"},
    "telemetry_log_lines_dropped_total": {"queue_full", "shutdown", "write_failed"},
    "telemetry_log_records_dropped_total": {"queue_full", "shutdown", "export_failed"},
    "telemetry_signal_failures_total": SIGNALS,
}


def test_losses_are_at_zero_from_the_start() -> None:
    """Each counter of a loss has its series before anything is lost, so that the first loss shows in rate()."""
    found: dict[str, set[str]] = {}
    for metric in MemoryTelemetry().registry.collect():
        for sample in metric.samples:
            if sample.name in LOSSES:
                assert sample.value == 0
                found.setdefault(sample.name, set()).update(sample.labels.values())
    assert found == LOSSES


def test_every_failure_has_its_series() -> None:
    """The names under which failures and losses are counted in the code are those of the series."""
    code = "".join(path.read_text() for path in Path(observability.__file__).parent.rglob("*.py"))
    failures = set(re.findall(r'\.fail(?:ure)?\(\s*"(\w+)"', code))
    names = set(re.findall(r'^    name = "(\w+)"', code, re.MULTILINE))
    assert failures | names <= SIGNALS
    assert {"tracing", "metrics", "logs"} <= names
    reasons = set(re.findall(r'dropped"?,\s*"(\w+)"(?:,| if)', code)) | set(
        re.findall(r'else "(\w+_full)"', code)
    )
    assert reasons == {"queue_full", "shutdown", "export_failed", "write_failed"}
