from dataclasses import replace

from tests.e2e.run.spans import CLIENT, ROOT, SERVER
from tools.run.traces import MAX_SPANS, MAX_TRACES, ORPHAN_S, SETTLE_S, Traces


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_trace_is_finished_when_its_root_is_there_and_nothing_more_came() -> None:
    """Spans of both services are waited for, and each trace is handed out once."""
    traces = Traces(clock := Clock())
    traces.add([SERVER])
    clock.now = SETTLE_S
    traces.add([ROOT, CLIENT])
    assert traces.take_finished() == []
    clock.now = 2 * SETTLE_S
    assert traces.take_finished() == [[SERVER, ROOT, CLIENT]]
    assert traces.take_finished() == []


def test_a_trace_whose_root_never_comes_is_finished_later() -> None:
    """A root that ran elsewhere, or was lost, is waited for within a bound."""
    traces = Traces(clock := Clock())
    traces.add([CLIENT])
    clock.now = SETTLE_S
    assert traces.take_finished() == []
    clock.now = ORPHAN_S
    assert traces.take_finished() == [[CLIENT]]


def test_a_span_that_is_sent_twice_is_there_once() -> None:
    """An exporter that tries again does not double the rows."""
    traces = Traces()
    traces.add([ROOT, ROOT])
    assert traces.take_all() == [[ROOT]]


def test_traces_above_the_bound_are_dropped_and_counted() -> None:
    """A load test does not fill the memory."""
    traces = Traces()
    traces.add(replace(ROOT, trace_id=str(number)) for number in range(MAX_TRACES + 3))
    assert len(traces.take_all()) == MAX_TRACES
    assert (traces.take_dropped(), traces.take_dropped()) == (3, 0)


def test_spans_above_the_bound_are_dropped_and_counted() -> None:
    """One endless trace does not fill the memory."""
    traces = Traces()
    traces.add(replace(ROOT, span_id=str(number)) for number in range(MAX_SPANS + 2))
    assert [len(spans) for spans in traces.take_all()] == [MAX_SPANS]
    assert traces.take_dropped() == 2
