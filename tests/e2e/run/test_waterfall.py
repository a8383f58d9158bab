from dataclasses import replace

import pytest

from tests.e2e.run.spans import CLIENT, ROOT, SERVER
from tools.run.terminal import bar
from tools.traces.trace import Row, shape


def test_rows_follow_the_tree_whatever_the_order_of_arrival() -> None:
    """Each span stands below its parent, one step deeper."""
    rows = shape([SERVER, CLIENT, ROOT])
    assert [(row.span, row.depth) for row in rows] == [(ROOT, 0), (CLIENT, 1), (SERVER, 2)]


def test_siblings_stand_in_the_order_of_their_start() -> None:
    """What ran first is read first."""
    earlier = replace(CLIENT, span_id="9", start_ns=1_000_000)
    assert [row.span for row in shape([ROOT, CLIENT, earlier])] == [ROOT, earlier, CLIENT]


def test_row_shows_duration_and_place_in_the_trace() -> None:
    """A span's milliseconds are its own; offset and share are parts of the trace's time."""
    _, client, _ = shape([ROOT, CLIENT, SERVER])
    assert (client.span.milliseconds, client.offset, client.share) == (6.0, 0.2, 0.6)


def test_a_clock_that_lags_makes_no_negative_times() -> None:
    """A child that seems to start before its parent, or to end before it started, still has a bar."""
    early = replace(CLIENT, start_ns=-5_000_000, end_ns=-6_000_000)
    rows = shape([ROOT, early])
    assert all(0 <= row.offset <= 1 and 0 <= row.share <= 1 and row.span.milliseconds >= 0 for row in rows)


def test_a_trace_without_duration_has_rows() -> None:
    """Times that are all one do not divide by zero."""
    assert shape([replace(ROOT, end_ns=0)])[0].span.milliseconds == 0


def test_a_span_whose_parent_never_came_is_a_root() -> None:
    """A lost parent does not hide its children."""
    assert [(row.span, row.depth) for row in shape([CLIENT, SERVER])] == [(CLIENT, 0), (SERVER, 1)]


def test_spans_that_are_each_others_parents_are_all_shown_once() -> None:
    """Nonsense from outside neither hangs nor loses a row."""
    ring = [replace(ROOT, parent_id="2"), CLIENT]
    assert sorted(row.span.span_id for row in shape(ring)) == ["1", "2"]


@pytest.mark.parametrize(
    ("offset", "share", "expected"),
    [
        (0.0, 1.0, "=========="),
        (0.2, 0.5, "  =====   "),
        (0.0, 0.0, "=         "),
        (1.0, 0.0, "         ="),
        (0.9, 1.0, "         ="),
    ],
)
def test_bar_is_as_wide_as_asked_and_never_empty(offset: float, share: float, expected: str) -> None:
    """A bar stays in its column, and even the shortest span has a mark."""
    assert bar(Row(ROOT, 0, offset, share), 10, "=") == expected
