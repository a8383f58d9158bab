"""The faster encoding gives the messages that OpenTelemetry's own encoder gives, whatever is on a span."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from observability.signals import otlp
from observability.signals.otlp import REPEATING, Encoder
from observability.signals.spans import PlainSpan
from observability.testing import MemoryTelemetry
from tests.unit.observability.rpc import Sync, channel, sync_server

SCOPES = [
    InstrumentationScope("observability", "1.2.3", "https://example.org"),
    InstrumentationScope("other", "", ""),
]
RESOURCES = [
    Resource({"service.name": "encoded"}),
    Resource({"service.name": "other"}, "https://example.org/other"),
]
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.text(),
    INT64,
    st.booleans(),
    st.floats(allow_nan=False),
    st.binary(),
    st.lists(st.text(), max_size=3).map(tuple),
    st.lists(INT64, max_size=3),
    st.just(2**64),  # too large for the wire: OpenTelemetry's encoder leaves it out
    st.sampled_from([0, 1, False, True, "grpc", "\ud800"]),
)
KEYS = st.sampled_from(sorted(REPEATING)) | st.text()
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
    st.sampled_from([None, TraceState(), TraceState([("a", "b"), ("c", "d")])]),
)
STATUSES = st.one_of(
    st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR)]),
    st.text().map(lambda description: Status(StatusCode.ERROR, description)),
)
PLAIN = st.builds(
    PlainSpan,
    name=st.text(),
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    resource=st.sampled_from(RESOURCES),
    attributes=st.dictionaries(KEYS, st.text() | INT64, max_size=20)
    | st.dictionaries(KEYS, VALUES, max_size=20),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=st.integers(0, 2**63),
    end_time=st.integers(0, 2**63),
    instrumentation_scope=st.sampled_from(SCOPES),
)


def spans_in(parts: Sequence[Any]) -> list[bytes]:
    """Each span with what it is of, in no order; an absent status is an empty one."""
    found = []
    for part in parts:
        for scope in part.scope_spans:
            assert scope.spans
            for span in scope.spans:
                span.status.SetInParent()
                found.append((part.resource, part.schema_url, scope.scope, scope.schema_url, span))
    return sorted(repr(each).encode() for each in found)


def check(encoder: Encoder, spans: Sequence[ReadableSpan]) -> None:
    """The encoder's messages are OpenTelemetry's."""
    assert spans_in(encoder.encode(spans)) == spans_in(encode_spans(spans).resource_spans)


ENCODER = Encoder()  # one for all examples: what it keeps of one must not show in another


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(PLAIN, min_size=1, max_size=8))
def test_any_plain_span_is_encoded_as_the_sdk_does(spans: list[PlainSpan]) -> None:
    """Names, ids, parents, states, kinds, attributes of any type and statuses are the same on the wire."""
    check(ENCODER, spans)


@pytest.mark.parametrize("key", ["rpc.method", "custom"])
def test_values_that_are_equal_keep_their_types(key: str) -> None:
    """A number, a truth value and a fraction that are equal do not stand in for each other."""
    check(Encoder(), [made(PlainSpan, attributes={key: value}) for value in (1, True, 1.0, "1", True, 1)])


class Handler(Sync):
    """Refuses, or touches the span of, the calls that say so."""

    def returns(self, request: bytes, context: Any) -> bytes:
        if request == b"refuse":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such book")
        if request == b"touch":
            trace.get_current_span().set_attribute("touched", (True, False))
            trace.get_current_span().add_event("touched", {"number": 1})
        return request


def call(target: str, client: MemoryTelemetry, request: bytes) -> None:
    with channel(client, target) as calls:
        metadata = [("x-tenant", "a"), ("x-tenant", "b")]
        calls.unary_unary("/test.Service/returns").future(request, metadata=metadata, timeout=60).code()


@pytest.fixture
def telemetries() -> Iterator[tuple[MemoryTelemetry, MemoryTelemetry]]:
    """The server's and the client's."""
    with MemoryTelemetry(metadata_attributes=["x-tenant"]) as server, MemoryTelemetry() as client:
        yield server, client


def test_the_spans_of_calls(telemetries: tuple[MemoryTelemetry, MemoryTelemetry]) -> None:
    """What a server and a client really record, answered and refused, in a trace and not, is encoded alike."""
    server, client = telemetries
    above = SpanContext(3, 4, True, TraceFlags(1), TraceState([("vendor", "value")]))
    with sync_server(server, Handler()) as target:
        call(target, client, b"x")
        call(target, client, b"refuse")
        with trace.use_span(trace.NonRecordingSpan(above)):
            call(target, client, b"x")
    spans = [*server.spans(), *client.spans()]
    assert len(spans) == 6
    assert {type(span) for span in spans} == {PlainSpan}
    assert {span.kind for span in spans} == {SpanKind.SERVER, SpanKind.CLIENT}
    assert [span.status.description for span in client.spans()] == [None, "no such book", None]
    assert {(span.attributes or {}).get("rpc.request.header.x-tenant") for span in spans} == {
        ("a", "b"),
        None,
    }
    assert {span.parent is None for span in spans} == {True, False}
    assert any(span.context is not None and span.context.trace_state for span in spans)
    check(Encoder(), spans)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> list[ReadableSpan]:
    """The spans that OpenTelemetry's encoder is given from now on."""
    given_to: list[ReadableSpan] = []

    def encode(spans: Sequence[ReadableSpan]) -> Any:
        given_to.extend(spans)
        return encode_spans(spans)

    monkeypatch.setattr(otlp, "encode_spans", encode)
    return given_to


def test_only_plain_spans_are_encoded_faster(
    telemetries: tuple[MemoryTelemetry, MemoryTelemetry], slowly: list[ReadableSpan]
) -> None:
    """A span that a handler has touched goes through OpenTelemetry's encoder, events and all; others do not."""
    server, client = telemetries
    with sync_server(server, Handler()) as target:
        for request in (b"x", b"touch", b"x"):
            call(target, client, request)
    spans = list(client.spans())
    encoder = Encoder()
    check(encoder, spans)
    slowly.clear()
    check(encoder, spans)
    assert slowly == []
    check(encoder, server.spans())
    assert [span.events[0].name for span in slowly if type(span) is not PlainSpan] == ["touched"]


def made(kind: Callable[..., ReadableSpan], **more: Any) -> ReadableSpan:
    options: dict[str, Any] = {"context": SpanContext(1, 2, False, TraceFlags(1)), "resource": RESOURCES[0],
                               "start_time": 10, "end_time": 20, "instrumentation_scope": SCOPES[0]}  # fmt: skip
    return kind("a.B/C", **options | more)


@pytest.mark.parametrize(
    "span",
    [
        made(PlainSpan, context=SpanContext(1, 2, False, TraceFlags(1), TraceState([("a", "b")]))),
        made(PlainSpan, attributes={"a": 1.5}),
        made(PlainSpan, attributes={"a": "\ud800", "b": 1}),
        made(PlainSpan, attributes={"rpc.method": ["a"]}),
        made(ReadableSpan, attributes={"a": "b"}),
        made(ReadableSpan, events=[Event("exception", {"exception.type": "KeyError"}, 5)]),
        made(ReadableSpan, links=[trace.Link(SpanContext(5, 6, True), {"a": 1})]),
    ],
)
def test_what_is_not_plain(span: ReadableSpan, slowly: list[ReadableSpan]) -> None:
    """What the faster encoding does not know, it leaves to OpenTelemetry's, for this span alone."""
    check(Encoder(), [made(PlainSpan), span, made(PlainSpan)])
    assert span in slowly
