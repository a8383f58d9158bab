"""The rules that decide how a call ended, on their own: what gRPC sends for what a handler set or raised."""

from typing import Any

import grpc
import pytest

from observability.grpc.outcome import (
    Outcome,
    Raised,
    aio_status,
    calling,
    deadline_left_s,
    lost,
    raised_outcome,
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


@pytest.mark.parametrize(
    ("raised", "code", "details", "expected"),
    [
        (Raised(BROKEN, None, None, False), None, None, Outcome("STATUS", "words", BROKEN)),
        (Raised(BROKEN, CODE.ABORTED, b"set", False), CODE.ABORTED, b"set", Outcome("STATUS", "set", BROKEN)),
        (Raised(BROKEN, CODE.ABORTED, b"said", True), CODE.ABORTED, b"said", Outcome("STATUS", "said", None)),
        (Raised(BROKEN, None, None, False), CODE.NOT_FOUND, "turned", Outcome("STATUS", "turned", None)),
        (Raised(BROKEN, None, None, False), CODE.NOT_FOUND, None, Outcome("STATUS", "", None)),
    ],
    ids=["nobody catches it", "after a code was set", "an abort", "turned into a status", "without details"],
)
def test_a_handler_that_raised(raised: Raised, code: Any, details: Any, expected: Outcome) -> None:
    """It is an exception, unless it was an abort or somebody outside turned it into a status."""
    assert raised_outcome(raised, code, details, "STATUS", "words") == expected


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
