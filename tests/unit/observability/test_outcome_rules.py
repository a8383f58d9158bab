"""The rules that decide how a call ended, on their own: what gRPC sends for what a handler set or raised."""

from typing import Any

import grpc
import pytest

from observability.grpc.outcome import (
    End,
    Outcome,
    Raised,
    aio_outcome,
    aio_status,
    calling,
    deadline_left_s,
    lost,
    threaded_outcome,
    threaded_status,
    unexpected,
)

CODE = grpc.StatusCode
BROKEN = ValueError("broken")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Deadline:
    """A servicer context with that many seconds left."""

    def __init__(self, left_s: float | None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s


@pytest.mark.parametrize(
    ("code", "threaded", "aio"),
    [
        (None, "default", "default"),
        (CODE.OK, "OK", "OK"),
        (CODE.NOT_FOUND, "NOT_FOUND", "NOT_FOUND"),
        (5, "UNKNOWN", "NOT_FOUND"),
        (0, "UNKNOWN", "default"),
        (99, "UNKNOWN", "UNKNOWN"),
        ("NOT_FOUND", "UNKNOWN", "UNKNOWN"),
    ],
)
def test_the_status_for_a_code_that_was_set(code: Any, threaded: str, aio: str) -> None:
    """The two servers of grpcio send different statuses for what is no StatusCode."""
    assert (threaded_status(code, "default"), aio_status(code, "default")) == (threaded, aio)


@pytest.mark.parametrize(("left_s", "expected"), [(None, None), (9.2e18, None), (0.0, 0.0), (1.5, 1.5)])
def test_the_deadline(left_s: float | None, expected: float | None) -> None:
    """A threaded server says 9.2e18 seconds of a call that has none."""
    assert deadline_left_s(Deadline(left_s)) == expected


@pytest.mark.parametrize(
    ("left_s", "status"),
    [(None, "CANCELLED"), (3.0, "CANCELLED"), (0.04, "DEADLINE_EXCEEDED"), (0.0, "DEADLINE_EXCEEDED")],
)
def test_a_call_whose_client_is_gone(left_s: float | None, status: str) -> None:
    """It was cancelled, unless its deadline has passed or is about to."""
    assert lost(left_s) == Outcome(status)


RAISED = Raised(BROKEN, None, None, aborted=False)
CALLING, UNEXPECTED = "Exception calling application: broken", "Unexpected <class 'ValueError'>: broken"


@pytest.mark.parametrize(
    ("end", "threaded", "aio"),
    [
        (End(is_served=True), Outcome("OK"), Outcome("OK")),
        (End(CODE.OK, b"", is_served=True), Outcome("OK"), Outcome("OK")),
        (End(None, "said", is_served=True), Outcome("OK", "said"), Outcome("OK", "said")),
        (End(CODE.ABORTED, b"set", is_served=True), Outcome("ABORTED", "set"), Outcome("ABORTED", "set")),
        (End(5, is_served=True), Outcome("UNKNOWN"), Outcome("NOT_FOUND")),
        (End(), Outcome("CANCELLED"), Outcome("CANCELLED")),
        (End(left_s=0.0), Outcome("DEADLINE_EXCEEDED"), Outcome("DEADLINE_EXCEEDED")),
        (End(CODE.ABORTED, "went on"), Outcome("CANCELLED"), Outcome("ABORTED", "went on")),
        (End(CODE.ABORTED, left_s=3.0, is_served=True, is_gone=True), Outcome("CANCELLED"), Outcome("CANCELLED")),
        (End(raised=RAISED, left_s=0.0, is_gone=True), Outcome("DEADLINE_EXCEEDED"), Outcome("DEADLINE_EXCEEDED")),
        (End(raised=RAISED), Outcome("UNKNOWN", CALLING, BROKEN), Outcome("UNKNOWN", UNEXPECTED, BROKEN)),
        (
            End(CODE.OK, raised=Raised(BROKEN, CODE.OK, None, aborted=False)),
            Outcome("OK", CALLING, BROKEN),
            Outcome("UNKNOWN", UNEXPECTED, BROKEN),
        ),
        (
            End(CODE.ABORTED, b"set", raised=Raised(BROKEN, CODE.ABORTED, b"set", aborted=False)),
            Outcome("ABORTED", "set", BROKEN),
            Outcome("ABORTED", "set", BROKEN),
        ),
        (
            End(CODE.ABORTED, b"said", raised=Raised(BROKEN, CODE.ABORTED, b"said", aborted=True)),
            Outcome("ABORTED", "said"),
            Outcome("ABORTED", "said"),
        ),
        (End(CODE.NOT_FOUND, "turned", raised=RAISED), Outcome("NOT_FOUND", "turned"), Outcome("NOT_FOUND", "turned")),
        (End(CODE.NOT_FOUND, raised=RAISED), Outcome("NOT_FOUND"), Outcome("NOT_FOUND")),
        (End(is_cancelled=True, is_served=True), Outcome("CANCELLED"), Outcome("OK")),
    ],
    ids=[
        "it returns", "it sets OK", "it sets details alone", "it sets a status", "it sets a number",
        "its client is gone", "its deadline passed", "it aborts and goes on", "its client is gone by then",
        "its deadline passed and it raised", "nobody catches it", "after OK was set", "after a status was set",
        "an abort", "turned into a status", "turned, without details", "its handler cancelled it",
    ],
)  # fmt: skip
def test_how_a_call_ended(end: End, threaded: Outcome, aio: Outcome) -> None:
    """Each server's rule, without gRPC; no asyncio handler can cancel its own call."""
    assert (threaded_outcome(end), aio_outcome(end)) == (threaded, aio)


def test_the_details_of_an_exception() -> None:
    """They are grpcio's own, and an exception that cannot be printed has some, too."""
    assert calling(Raised(BROKEN, None, None, False)) == "Exception calling application: broken"
    assert (
        calling(Raised(BROKEN, None, None, False, iterating=True)) == "Exception iterating responses: broken"
    )
    assert (
        calling(Raised(UnprintableError(), None, None, False))
        == "Calling application raised unprintable Exception!"
    )
    assert unexpected(BROKEN) == "Unexpected <class 'ValueError'>: broken"
    assert unexpected(UnprintableError()).startswith("Unexpected <class ")
