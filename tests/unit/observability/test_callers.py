"""Callers that are not trusted: their traces are linked, not continued, and decide nothing."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import grpc
import pytest
from flask import Flask
from opentelemetry import baggage, propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.exposition import generate_latest

from observability.receiver import Receiver
from observability.testing import MemoryTelemetry, eventually

THEIRS, THEIR_SPAN = 7, 8
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
SERVERS = ("threaded", "asyncio", "functions on asyncio")


def headers(flag: str = "01") -> tuple[tuple[str, str], ...]:
    """What a caller sends along that has a trace, a state of it, and baggage."""
    ids = f"00-{THEIRS:032x}-{THEIR_SPAN:016x}-{flag}"
    return (("traceparent", ids), ("tracestate", "vendor=1"), ("baggage", "tier=paid"))


class Seen:
    """Handlers of the four kinds, which note what would go on from them."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.baggage: Any = None

    def look(self) -> None:
        propagate.inject(self.sent)
        self.baggage = baggage.get_all()

    def answer(self, *_: Any) -> bytes:
        self.look()
        return b"x"

    def answers(self, *_: Any) -> Iterator[bytes]:
        self.look()
        yield b"x"

    async def aio_answer(self, *_: Any) -> bytes:
        self.look()
        return b"x"

    async def aio_answers(self, *_: Any) -> Any:
        self.look()
        yield b"x"

    def handlers(self, server: str) -> grpc.GenericRpcHandler:
        """Each kind's method is named like it."""
        prefix = "aio_" if server == "asyncio" else ""
        made = {
            kind: getattr(grpc, f"{kind}_rpc_method_handler")(
                getattr(self, prefix + ("answers" if kind.endswith("stream") else "answer"))
            )
            for kind in KINDS
        }
        return grpc.method_handlers_generic_handler("test.Kinds", made)


@contextmanager
def serving(telemetry: MemoryTelemetry, seen: Seen, server: str = "threaded") -> Iterator[str]:
    if server == "threaded":
        threaded = grpc.server(ThreadPoolExecutor(2), interceptors=telemetry.server_interceptors())
        threaded.add_generic_rpc_handlers((seen.handlers(server),))
        port = threaded.add_insecure_port("127.0.0.1:0")
        threaded.start()
        yield f"127.0.0.1:{port}"
        threaded.stop(5).wait()
        return
    started, stop = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        made = grpc.aio.server(interceptors=telemetry.aio_server_interceptors())
        made.add_generic_rpc_handlers((seen.handlers(server),))
        ports.append(made.add_insecure_port("127.0.0.1:0"))
        await made.start()
        started.set()
        await asyncio.to_thread(stop.wait)
        await made.stop(5)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield f"127.0.0.1:{ports[0]}"
    stop.set()
    thread.join()


def call(target: str, kind: str, metadata: Any) -> None:
    with grpc.insecure_channel(target) as channel:
        made: Any = getattr(channel, kind)(f"/test.Kinds/{kind}")
        request = iter([b"x"]) if kind.startswith("stream") else b"x"
        answer = made(request, metadata=metadata, timeout=30)
        assert (list(answer) if kind.endswith("stream") else [answer]) == [b"x"]


def one(telemetry: MemoryTelemetry) -> Any:
    eventually(telemetry.spans)
    (span,) = telemetry.spans()
    return span


def assert_linked(telemetry: MemoryTelemetry, span: Any, event: str) -> None:
    """The span is a root, linked to the caller's, and the line and the exemplar are in its trace."""
    assert span.parent is None
    assert span.context.trace_id not in {0, THEIRS}
    assert not span.context.trace_state
    (link,) = span.links
    assert (link.context.trace_id, link.context.span_id, link.context.is_remote) == (THEIRS, THEIR_SPAN, True)
    trace_id = f"{span.context.trace_id:032x}"
    assert telemetry.line(event=event)["trace_id"] == trace_id
    exemplars = [line for line in generate_latest(telemetry.registry).decode().splitlines() if " # {" in line]
    assert exemplars
    assert all(trace_id in line for line in exemplars)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("server", SERVERS)
def test_a_stranger_is_linked(server: str, kind: str) -> None:
    """Its call starts a trace of ours, sampled by us, with its span as a link, and its baggage goes no further."""
    telemetry, seen = MemoryTelemetry(public_endpoint=True), Seen()
    with serving(telemetry, seen, server) as target:
        call(target, kind, headers(flag="00"))
        span = one(telemetry)
    assert_linked(telemetry, span, "grpc.server.call")
    assert seen.baggage == {}
    assert seen.sent == {"traceparent": f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-03"}


class Adding(SpanProcessor):
    """With a custom processor, the spans of calls are the SDK's from the start."""


@pytest.mark.parametrize("how", ["untouched", "custom processor", "custom provider", "another propagator"])
def test_however_the_span_is_made(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is on it, and what it is sampled by is our sampler's word on a root."""
    exporter = InMemorySpanExporter()
    theirs = TracerProvider()
    theirs.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = MemoryTelemetry(
        public_endpoint=True, tracer_provider=theirs if how == "custom provider" else None
    )
    if how == "custom processor":
        provider: Any = telemetry.tracer_provider
        provider.add_span_processor(Adding())
    if how == "another propagator":
        known = propagate.get_global_textmap()
        monkeypatch.setattr(propagate, "get_global_textmap", lambda: Renamed(known))
    seen = Seen()
    seen.look = lambda: None  # type: ignore[method-assign]
    with serving(telemetry, seen) as target:
        call(target, "unary_unary", headers(flag="00"))
        telemetry.force_flush()
        (span,) = eventually(lambda: exporter.get_finished_spans() or telemetry.spans())
    assert_linked(telemetry, span, "grpc.server.call")


class Renamed(TextMapPropagator):
    """One that has other headers, too, so that it is asked for all that it knows."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def extract(self, *arguments: Any, **options: Any) -> Any:
        return self._inner.extract(*arguments, **options)

    def inject(self, *arguments: Any, **options: Any) -> None:
        self._inner.inject(*arguments, **options)

    @property
    def fields(self) -> set[str]:
        return {"x-other"}


@pytest.mark.parametrize("flag", ["00", "01"])
def test_a_stranger_does_not_decide_about_sampling(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where roots are not sampled, its flag brings no span."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    telemetry = MemoryTelemetry(public_endpoint=True)
    with serving(telemetry, Seen()) as target:
        call(target, "unary_unary", headers(flag))
        eventually(telemetry.lines)
    assert telemetry.spans() == ()


def test_the_link_arrives() -> None:
    """It is on the span that an OTLP receiver gets, with the caller's ids."""
    spans: list[Any] = []
    with closing(Receiver(lambda _, some: spans.extend(some))) as receiver:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
            from observability import Telemetry

            telemetry = Telemetry("x", registry=MemoryTelemetry().registry, public_endpoint=True)
        with serving(telemetry, Seen()) as target:  # type: ignore[arg-type]
            call(target, "unary_unary", headers())
        telemetry.shutdown()
    (span,) = spans
    assert span.parent_span_id == b""
    assert [link.trace_id.hex() for link in span.links] == [f"{THEIRS:032x}"]


def test_a_function_says_who_is_a_stranger() -> None:
    """It is given the record, of calls and of requests; where it raises, the caller is one, and it is counted."""

    def public(record: Any) -> bool:
        if record.operation.side == "http":
            raise RuntimeError("broken")
        return ("x-ours", "1") not in record.metadata

    telemetry, seen = MemoryTelemetry(public_endpoint=public), Seen()
    with serving(telemetry, seen) as target:
        call(target, "unary_unary", (*headers(), ("x-ours", "1")))
        call(target, "unary_unary", headers())
        eventually(lambda: len(telemetry.spans()) == 2)
    app = Flask("web")
    telemetry.instrument_flask(app)
    app.test_client().get("/", headers=dict(headers())).close()
    ours, strange, request = telemetry.spans()
    assert (ours.parent.span_id, len(ours.links)) == (THEIR_SPAN, 0)  # type: ignore[union-attr]
    assert [(span.parent, len(span.links)) for span in (strange, request)] == [(None, 1)] * 2
    assert telemetry.value("telemetry_signal_failures_total", signal="public_endpoint") == 1


@pytest.mark.parametrize(
    ("variable", "keyword", "is_public"),
    [("", None, False), ("true", None, True), ("TRUE", None, True), ("false", None, False), ("x", None, False),
     ("true", False, False), ("false", True, True)],
)  # fmt: skip
def test_the_variable(
    variable: str, keyword: bool | None, is_public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OBSERVABILITY_PUBLIC_ENDPOINT says so where the code does not; by default traces go on, with their baggage."""
    monkeypatch.setenv("OBSERVABILITY_PUBLIC_ENDPOINT", variable)
    telemetry, seen = MemoryTelemetry(public_endpoint=keyword), Seen()
    with serving(telemetry, seen) as target:
        call(target, "unary_unary", headers())
        span = one(telemetry)
    assert (span.context.trace_id != THEIRS) is bool(span.links) is is_public
    assert seen.baggage == ({} if is_public else {"tier": "paid"})


@pytest.mark.parametrize(("path", "code"), [("/", 200), ("/nowhere", 404)])
def test_a_page(path: str, code: int) -> None:
    """A visitor's request is the root of a trace of ours, which the answer names; baggage reaches no view."""
    telemetry, seen = MemoryTelemetry(public_endpoint=True), Seen()
    app = Flask("web")
    app.add_url_rule("/", view_func=seen.answer)
    telemetry.instrument_flask(app)
    answer = app.test_client().get(path, headers=dict(headers(flag="00")))
    assert answer.status_code == code
    answer.close()
    span = one(telemetry)
    assert_linked(telemetry, span, "http.server.request")
    assert span.kind is trace.SpanKind.SERVER
    assert f"{span.context.trace_id:032x}" in answer.headers["traceresponse"]
    assert not seen.baggage
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_page_that_flask_never_sees() -> None:
    """A request that middleware inside of ours answers is linked, too."""
    telemetry = MemoryTelemetry(public_endpoint=True)
    app = Flask("web")

    def closed(environ: Any, start_response: Any) -> list[bytes]:
        start_response("503 Service Unavailable", [])
        return [b""]

    app.wsgi_app = closed  # type: ignore[method-assign, assignment]
    telemetry.instrument_flask(app)
    app.test_client().get("/", headers=dict(headers())).close()
    assert_linked(telemetry, one(telemetry), "http.server.request")
