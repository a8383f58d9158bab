"""How an RPC ended, read from what gRPC's servicer contexts say."""

import math
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
