from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode, Tracer

from tests.e2e.run.spans import CLIENT, ROOT, SERVER
from tools.traces.kept import MAX_SPANS, MAX_WAITING, ORPHAN_S, SETTLE_S, Kept, receiver
from tools.traces.trace import MAX_VALUE, Span, Trace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_trace_is_finished_when_its_root_is_there_and_nothing_more_came() -> None:
    """Spans of both services are waited for, and each trace is handed out once."""
    kept = Kept(clock=(clock := Clock()))
    kept.add([SERVER])
    clock.now = SETTLE_S
    kept.add([ROOT, CLIENT])
    assert kept.take_finished() == []
    clock.now = 2 * SETTLE_S
    assert kept.take_finished() == [Trace([SERVER, ROOT, CLIENT])]
    assert kept.take_finished() == []


def test_a_trace_whose_root_never_comes_is_finished_later() -> None:
    """A root that ran elsewhere, or was lost, is waited for within a bound."""
    kept = Kept(clock=(clock := Clock()))
    kept.add([CLIENT])
    clock.now = SETTLE_S
    assert kept.take_finished() == []
    clock.now = ORPHAN_S
    assert kept.take_finished() == [Trace([CLIENT])]


def test_a_span_that_is_sent_twice_is_there_once() -> None:
    """An exporter that tries again does not double the rows."""
    kept = Kept()
    kept.add([ROOT, ROOT])
    assert kept.take_all() == [Trace([ROOT])]


def test_traces_above_the_bound_are_dropped_and_counted() -> None:
    """A load test does not fill the memory."""
    kept = Kept()
    kept.add(replace(ROOT, trace_id=str(number)) for number in range(MAX_WAITING + 3))
    assert len(kept.take_all()) == MAX_WAITING
    assert (kept.take_dropped(), kept.take_dropped()) == (3, 0)


def test_spans_above_the_bound_are_dropped_and_counted() -> None:
    """One endless trace does not fill the memory."""
    kept = Kept()
    kept.add(replace(ROOT, span_id=str(number)) for number in range(MAX_SPANS + 2))
    assert [len(trace.spans) for trace in kept.take_all()] == [MAX_SPANS]
    assert kept.take_dropped() == 2


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def tracer(kept: Kept) -> Iterator[Tracer]:
    """A tracer that exports over real gRPC to the receiver."""
    taking = receiver(kept.add)
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(taking.endpoint, timeout=5)))
    yield provider.get_tracer("test")
    provider.shutdown()
    taking.close()


def only(kept: Kept) -> Span:
    [trace] = kept.take_all()
    [span] = trace.spans
    return span


def test_exported_spans_arrive_as_one_trace(kept: Kept, tracer: Tracer) -> None:
    """What OpenTelemetry's own exporter sends is read with its names, parents and times."""
    with tracer.start_as_current_span("outer", attributes={"http.response.status_code": 200}):
        tracer.start_span("inner", attributes={"rpc.status_code": "NOT_FOUND"}).end()
    [trace] = kept.take_all()
    inner, outer = trace.spans
    assert (inner.name, inner.status, inner.parent_id) == ("inner", "NOT_FOUND", outer.span_id)
    assert (outer.name, outer.status, outer.parent_id) == ("outer", "200", "")
    assert inner.trace_id == outer.trace_id
    assert outer.service == "shop"
    assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns


def test_a_failed_span_without_status_attribute_says_error(kept: Kept, tracer: Tracer) -> None:
    """A span that is neither HTTP nor gRPC still shows that it failed."""
    span = tracer.start_span("query")
    span.set_status(StatusCode.ERROR)
    span.end()
    assert only(kept) == Span(ANY, ANY, "", "shop", "query", "ERROR", True, ANY, ANY, "internal", events=[])


def test_attributes_and_events_arrive(kept: Kept, tracer: Tracer) -> None:
    """Values of all types are texts, those of an exception keep its lines, and each is cut."""
    attributes: dict[str, Any] = {
        "yes": True,
        "size": 3,
        "parts": ["a", "b"],
        "long": "x" * 5000,
        "clean": "a\x1bb",
    }
    with suppress(ValueError), tracer.start_as_current_span("query", attributes=attributes):
        raise ValueError("wrong")
    span = only(kept)
    assert span.attributes == {
        "yes": "True", "size": "3", "parts": "['a', 'b']", "long": "x" * MAX_VALUE, "clean": "a\ufffdb"
    }  # fmt: skip
    assert span.message == "ValueError: wrong"
    (event,) = span.events
    assert event.attributes["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert span.start_ns <= event.time_ns <= span.end_ns


def test_text_cannot_steer_the_terminal(kept: Kept, tracer: Tracer) -> None:
    """Control characters and reordering marks that a span brings are replaced."""
    tracer.start_span("a\x1b[2Jb\r\nc\u202e", attributes={"rpc.status_code": "O\aK"}).end()
    span = only(kept)
    assert (span.name, span.status) == ("a\ufffd[2Jb\ufffd\ufffdc\ufffd", "O\ufffdK")
