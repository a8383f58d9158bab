"""How an RPC ended: pure rules, from what a servicer context says and what the handler did."""

from typing import Any, NamedTuple

import grpc

# A client gives up at its own deadline, a little before the one that the server worked out on arrival.
DEADLINE_SLACK_S = 0.05
FOREVER_S = 1e9  # a threaded server says more than this of a call without a deadline
NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class Outcome(NamedTuple):
    """Status, details, and the exception, if it is one that nobody turned into a status."""

    status: str
    details: str = ""
    error: BaseException | None = None


OK = Outcome("OK")


class Raised(NamedTuple):
    """What a handler let out, and what the context said at that moment."""

    error: BaseException
    code: Any
    details: Any
    aborted: bool
    iterating: bool = False


class End(NamedTuple):
    """What is known of an RPC when its record ends: what its context says, and what became of its handler.

    left_s is in seconds until its deadline (None: it has none, or nobody needs to know); is_served: the
    handler is done, and raised nothing; is_gone: its client did not wait for that; is_cancelled: the handler
    cancelled it.
    """

    code: Any = None
    details: Any = None
    left_s: float | None = None
    raised: Raised | None = None
    is_served: bool = False
    is_gone: bool = False
    is_cancelled: bool = False


def threaded_outcome(end: End) -> Outcome:
    """How an RPC of a threaded server ended."""
    if end.is_cancelled:
        return Outcome("CANCELLED")
    if end.is_gone or not (end.is_served or end.raised):
        return lost(end.left_s)
    if end.raised is not None:
        status = threaded_status(end.code, "UNKNOWN")
        return raised_outcome(end.raised, end.code, end.details, status, calling(end.raised))
    if end.code is None and not end.details:
        return OK
    return Outcome(threaded_status(end.code, "OK"), text(end.details))


def aio_outcome(end: End) -> Outcome:
    """How an RPC of an asyncio server ended, where an exception is never OK.

    A handler may abort and go on: then its status was sent, though it is not done.
    """
    status = aio_status(end.code, "OK")
    if end.is_gone or (status == "OK" and not (end.is_served or end.raised)):
        return lost(end.left_s)
    if end.raised is not None:
        words = unexpected(end.raised.error)
        return raised_outcome(end.raised, end.code, end.details or None, aio_failure(end.code), words)
    return Outcome(status, text(end.details))


def deadline_left_s(context: Any) -> float | None:
    """Seconds until the RPC's deadline; None when it has none."""
    left: float | None = context.time_remaining()
    return left if left is not None and left < FOREVER_S else None


def lost(left_s: float | None) -> Outcome:
    """The outcome of an RPC whose client is gone: its deadline passed, or it cancelled."""
    late = left_s is not None and left_s < DEADLINE_SLACK_S
    return Outcome("DEADLINE_EXCEEDED" if late else "CANCELLED")


def threaded_status(code: Any, default: str) -> str:
    """What a threaded server sends for the code that was set: UNKNOWN for anything but a StatusCode."""
    if code is None:
        return default
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def aio_status(code: Any, default: str) -> str:
    """What an asyncio server sends for the code that was set: a number goes out as it is."""
    if not code and not isinstance(code, grpc.StatusCode):
        return default
    return code.name if isinstance(code, grpc.StatusCode) else NAMES.get(code, "UNKNOWN")


def aio_failure(code: Any) -> str:
    """The same, for a handler that raised: that is never OK."""
    status = aio_status(code, "UNKNOWN")
    return "UNKNOWN" if status == "OK" else status


def raised_outcome(raised: Raised, code: Any, details: Any, status: str, words: str) -> Outcome:
    """The outcome of an RPC whose handler raised; code and details are what the context says at its end.

    Where they are not what they were, an interceptor outside of ours has turned the exception into a status.
    words are the details that gRPC sends when nobody has set any.
    """
    was_turned = raised.aborted or code != raised.code or text(details) != text(raised.details)
    said = words if details is None and not was_turned else text(details)
    return Outcome(status, said, None if was_turned else raised.error)


def text(details: str | bytes | None) -> str:
    """A status's details as text; a threaded server holds them as bytes."""
    return details.decode(errors="replace") if isinstance(details, bytes) else details or ""


def calling(raised: Raised) -> str:
    """The details that a threaded server sends for an exception that nobody caught."""
    try:
        step = "iterating responses" if raised.iterating else "calling application"
        return f"Exception {step}: {raised.error}"
    except Exception:  # its __str__ raises
        return "Calling application raised unprintable Exception!"


def unexpected(error: BaseException) -> str:
    """The details that an asyncio server sends for an exception that nobody caught."""
    try:
        return f"Unexpected {type(error)}: {error}"
    except Exception:  # its __str__ raises, and then gRPC's task ends without a word
        return f"Unexpected {type(error)}"
