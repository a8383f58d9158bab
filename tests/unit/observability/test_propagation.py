"""What callers send along is bounded: headers of any size and form cost little, raise nothing, and log nothing."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import TraceState

from observability.propagation import METADATA, tracestate
from observability.propagation import baggage as kept
from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import channel, sync_server

IDS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MEMBERS = [f"k{n}=v{n}" for n in range(1000)]
ROOM = [("grpc.max_metadata_size", 4 << 20), ("grpc.absolute_max_metadata_size", 4 << 20)]
MB = "v" * 1_000_000
PROPAGATORS = ("opentelemetry.baggage", "opentelemetry.trace")  # loggers; those of exporters may have a word

HEADERS: dict[str, tuple[list[tuple[str, str]], dict[str, str], dict[str, str]]] = {
    # by name: the headers, and what is left of them as baggage and as tracestate
    "as they should be": ([("baggage", "a=1;p=2, b=2"), ("tracestate", "x=1")], {"a": "1;p=2", "b": "2"}, {"x": "1"}),
    "repeated": (
        [("baggage", "a=1"), ("baggage", "b=2"), ("tracestate", "x=1"), ("tracestate", "y=2")],
        {"a": "1", "b": "2"},
        {"x": "1", "y": "2"},
    ),
    "many members": (
        [("baggage", ",".join(MEMBERS)), ("tracestate", ",".join(MEMBERS[:33]))],
        {f"k{n}": f"v{n}" for n in range(64)},
        {},
    ),
    "one long member": ([("baggage", f"a={MB}"), ("tracestate", f"x={MB}")], {}, {}),
    "long members": (
        [
            ("baggage", ",".join(f"k{n}={'v' * 1000}" for n in range(20))),
            ("tracestate", ",".join([f"x={'v' * 200}", *(f"k{n}={'v' * 50}" for n in range(20))])),
        ],
        {f"k{n}": "v" * 1000 for n in range(8)},
        {f"k{n}": "v" * 50 for n in range(9)},
    ),
    "malformed members": ([("baggage", "a=1,,b,=,c d=1,e=é,f=2"), ("tracestate", "x=1,Y=2")], {"a": "1", "f": "2"}, {}),
    "nothing in them": ([("baggage", ""), ("tracestate", " , ")], {}, {}),
    "a megabyte of commas": ([("baggage", "," * 1_000_000), ("tracestate", "," * 1_000_000)], {}, {}),
}  # fmt: skip


class Seen:
    """What code under a server's span would pass on."""

    def __init__(self) -> None:
        self.baggage: Any = None
        self.state: Any = None

    def look(self, *_: Any) -> bytes:
        self.baggage = dict(baggage.get_all())
        self.state = dict(trace.get_current_span().get_span_context().trace_state)
        return b"x"

    async def aio_look(self, *_: Any) -> bytes:
        return self.look()


def ask(port: int, metadata: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as made:
        asking: Any = made.unary_unary("/test.Service/look")
        asking(b"x", metadata=metadata, timeout=30)


def on_threads(telemetry: MemoryTelemetry, seen: Seen, metadata: Any) -> None:
    server = grpc.server(ThreadPoolExecutor(1), interceptors=telemetry.server_interceptors(), options=ROOM)
    handlers: Any = {"look": grpc.unary_unary_rpc_method_handler(seen.look)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ask(port, metadata)
    server.stop(None).wait()


def on_asyncio(telemetry: MemoryTelemetry, seen: Seen, metadata: Any) -> None:
    async def serve() -> None:
        server = grpc.aio.server(interceptors=telemetry.aio_server_interceptors(), options=ROOM)
        handlers: Any = {"look": grpc.unary_unary_rpc_method_handler(seen.aio_look)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await asyncio.to_thread(ask, port, metadata)
        await server.stop(None)

    asyncio.run(serve())


def in_flask(telemetry: MemoryTelemetry, seen: Seen, metadata: Any) -> None:
    app = Flask("web")
    app.add_url_rule("/", view_func=seen.look)
    telemetry.instrument_flask(app)
    joined: dict[str, str] = {}
    for key, value in metadata:  # a server gives a repeated header as one
        joined[key] = f"{joined[key]},{value}" if key in joined else value
    assert app.test_client().get("/", headers=joined).data == b"x"


EDGES = {"threaded": on_threads, "asyncio": on_asyncio, "flask": in_flask}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_bounded(name: str, edge: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is left of them is by the rules of the documentation; the call is well, and nobody's log has a word."""
    given, members, state = HEADERS[name]
    if edge != "flask":  # gRPC itself sends nothing but ASCII
        given = [(key, value.replace("é", '"')) for key, value in given]
    telemetry, seen = MemoryTelemetry(), Seen()
    EDGES[edge](telemetry, seen, [("traceparent", IDS), *given])
    (span,) = eventually(telemetry.spans)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}" == IDS[3:35]
    assert (seen.baggage, seen.state) == (members, state)
    assert [record for record in caplog.records if record.name.startswith(PROPAGATORS)] == []
    assert telemetry.value("telemetry_signal_failures_total") == 0


@pytest.mark.parametrize(
    "value", [f"cc-{IDS[3:]}-{MB}", MB, f"{IDS},{IDS}"], ids=["later version", "long", "two"]
)
@pytest.mark.parametrize("edge", EDGES)
def test_a_traceparent_that_is_no_one(value: str, edge: str) -> None:
    """One that is too long, or there twice, starts a new trace."""
    telemetry, seen = MemoryTelemetry(), Seen()
    EDGES[edge](telemetry, seen, [("traceparent", value)])
    (span,) = eventually(telemetry.spans)
    assert span.parent is None


near = st.text('abc=,; \t"%()\\{}@/-_*:é\x00\x7f\n', max_size=300) | st.text(max_size=100)


@settings(max_examples=100, deadline=None)
@given(near, near)
def test_propagators_have_nothing_to_say(members: str, state: str) -> None:
    """Whatever the headers are, OpenTelemetry's propagators log no word of what is left of them."""
    heard: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = heard.append  # type: ignore[assignment, method-assign]
    for name in PROPAGATORS:
        logging.getLogger(name).addHandler(handler)
    try:
        carrier = [("traceparent", IDS), ("baggage", members), ("tracestate", state)]
        propagate.extract(carrier, Context(), METADATA)
    finally:
        for name in PROPAGATORS:
            logging.getLogger(name).removeHandler(handler)
    assert heard == []
    assert len(kept(members)) <= len(members)
    assert len(tracestate(state)) <= 512


def test_captured_values_are_bounded() -> None:
    """Of a key in metadata_attributes, 16 values are shown, and 1024 characters of each; the handler has them all."""
    telemetry = MemoryTelemetry(metadata_attributes=["x-many", "x-long", "x-raw-bin"])
    metadata = [*(("x-many", str(n)) for n in range(40)), ("x-long", "v" * 5000)]
    with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x", metadata=metadata, timeout=30)
    span: Any = telemetry.span("test.Service/returns")
    assert span.attributes["rpc.request.header.x-many"] == tuple(map(str, range(16)))
    assert span.attributes["rpc.request.header.x-long"] == ("v" * 1024,)


def test_the_name_of_an_unknown_method_is_bounded() -> None:
    """Of the name of a method that there is not, span and line have 1024 characters."""
    telemetry = MemoryTelemetry()
    with sync_server(telemetry) as target, grpc.insecure_channel(target) as made:
        asking: Any = made.unary_unary("/test.Service/" + "x" * 4000)
        with pytest.raises(grpc.RpcError, match="Method not found"):
            asking(b"x", timeout=30)
    asked = ("test.Service/" + "x" * 4000)[:1024]
    assert telemetry.line(event="grpc.server.call")["rpc.method_original"] == asked
    assert telemetry.span("_OTHER").attributes["rpc.method_original"] == asked  # type: ignore[index]


def test_attributes_of_a_request_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's address, its client's name and captured headers are shown up to 1024 characters."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "X-Long")
    telemetry = MemoryTelemetry()
    app = Flask("web")
    telemetry.instrument_flask(app)
    long = "v" * 5000
    app.test_client().get(f"/{long}?{long}", headers={"User-Agent": long, "X-Long": long}).close()
    (span,) = telemetry.spans()
    attributes: Any = span.attributes
    assert attributes["url.path"] == "/" + "v" * 1023
    assert attributes["url.query"] == attributes["user_agent.original"] == "v" * 1024
    assert attributes["http.request.header.x_long"] == ("v" * 1024,)


def test_what_is_sent_on_fails_no_call() -> None:
    """The most baggage that W3C knows, and a full tracestate, are cut to what a gRPC server takes."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    full = Context()
    for n in range(64):
        full = baggage.set_baggage(f"k{n:02}", "v" * 124, full)
    state = TraceState([(f"k{n}", "v" * 200) for n in range(32)])
    parent = trace.NonRecordingSpan(trace.SpanContext(1, 2, True, trace.TraceFlags(1), state))
    token = otel_context.attach(trace.set_span_in_context(parent, full))
    try:
        with sync_server(server) as target, channel(client, target) as made:
            for _ in range(50):
                made.unary_unary("/test.Service/returns")(b"x", metadata=[("x-own", "v" * 2000)], timeout=30)
    finally:
        otel_context.detach(token)
    assert client.value("grpc_client_handled_total", grpc_code="OK") == 50
    assert client.value("telemetry_signal_failures_total") == 0
