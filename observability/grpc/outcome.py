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
