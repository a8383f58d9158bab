"""What is usual for a span: how its method was in the time before."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tools.traces.methods import Method
from tools.traces.trace import Span


class Usual(NamedTuple):
    """What is usual for a method: how many calls were counted, and within what time 50 and 95 % ended."""

    calls: int
    p50_ms: float
    p95_ms: float


def usual_of(methods: Iterable[Method]) -> Callable[[Span], Usual | None]:
    """What is usual for a span, by what the methods were in the time before."""
    known = {(method.service, method.side, method.name): method for method in methods}

    def of(span: Span) -> Usual | None:
        method = known.get((span.service, span.kind, span.name))
        return Usual(method.count, method.quantile_ms(0.5), method.quantile_ms(0.95)) if method else None

    return of
