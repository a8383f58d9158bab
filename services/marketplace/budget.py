"""What is left of the time in which a page should be answered, its wait for a thread included."""

import time
from contextvars import ContextVar

from flask import g

# How many seconds the request that this thread serves has waited for it; the server sets it.
queued_s: ContextVar[float] = ContextVar("queued_s", default=0.0)


def left_s(budget_s: float) -> float:
    """How many seconds of the budget the request of now has left."""
    return budget_s - queued_s.get() - (time.perf_counter() - float(g.started_s))
