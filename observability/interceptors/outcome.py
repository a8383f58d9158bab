"""How an RPC ended, read from what gRPC's servicer contexts say."""

import functools
import math
from contextlib import suppress
from typing import Any

import grpc

# A client gives up at its own deadline, a little before the one that the server worked out on arrival.
DEADLINE_SLACK_S = 0.05
NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def deadline_left_s(context: Any) -> float | None:
    """Seconds until the RPC's deadline; None when it has none."""
    left: float | None = context.time_remaining()
    return left if left is not None and math.isfinite(left) else None


def lost_status(context: Any) -> str:
    """The status of an RPC whose client is gone: its deadline passed, or it cancelled."""
    left = deadline_left_s(context)
    return "DEADLINE_EXCEEDED" if left is not None and left < DEADLINE_SLACK_S else "CANCELLED"


def text(details: str | bytes | None) -> str:
    """A status's details as text; a threaded server holds them as bytes."""
    return details.decode(errors="replace") if isinstance(details, bytes) else details or ""


def unexpected(error: BaseException) -> str:
    """The details that an asyncio server sends for an exception that nobody caught."""
    return f"Unexpected {type(error)}: {error}"


def is_abort(error: Exception) -> bool:
    """Whether context.abort raised it: a bare Exception, told only by where it comes from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return isinstance(error, grpc.aio.AbortError) or (
        type(error) is Exception
        and trace is not None
        and trace.tb_frame.f_code.co_name == "abort"
        and trace.tb_frame.f_globals.get("__name__") == "grpc._server"
    )


def note_cancel(context: Any) -> None:
    """Let the context remember that the handler cancels the RPC: nothing else tells, and the client sees it.

    The context stays gRPC's own.
    """
    with suppress(TypeError):  # a context of somebody else's making may not bear it
        context.__class__ = _noting(type(context))  # type: ignore[arg-type]


@functools.cache
def _noting(kind: Any) -> type:
    def cancel(self: Any) -> Any:
        self.was_cancelled = True
        return kind.cancel(self)

    more = {"__module__": kind.__module__, "__slots__": (), "cancel": cancel}
    return type(kind.__name__, (kind,), more)
