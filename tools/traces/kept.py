"""The latest traces: received, kept for the page, and handed out once each to the terminal."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.proto.trace.v1 import trace_pb2

from observability.receiver import Attributes, Receiver
from tools.traces.text import printable
from tools.traces.trace import Span, Trace, span_of

SETTLE_S = 1.0  # the services export every 0.3 s
ORPHAN_S = 3.0  # for a root that may never come: it ran elsewhere, or was lost
MAX_WAITING = 50
MAX_SPANS = 100
MAX_BYTES = 16 * 1024 * 1024
SPAN_BYTES = 1000  # of a span without its texts, about


class Kept:
    """The traces that came last. Bounded: the oldest goes first, and few wait to be handed out."""

    def __init__(self, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._traces: dict[str, dict[str, Span]] = {}
        self._bytes = 0
        self._waiting: dict[str, float] = {}  # to be handed out, and when the last span came
        self._dropped = 0

    def add(self, spans: Iterable[Span]) -> None:
        """Put each span to its trace."""
        with self._lock:
            for span in spans:
                self._add(span)
            while self._bytes > self._max_bytes:
                oldest = next(iter(self._traces))
                self._bytes -= sum(map(_bytes, self._traces.pop(oldest).values()))
                self._waiting.pop(oldest, None)

    def all(self) -> list[Trace]:
        """All traces, the latest first."""
        with self._lock:
            traces = [Trace(list(spans.values())) for spans in self._traces.values()]
        return sorted(traces, key=lambda trace: trace.start_ns, reverse=True)

    def get(self, trace_id: str) -> Trace | None:
        """One trace."""
        with self._lock:
            spans = self._traces.get(trace_id)
            return Trace(list(spans.values())) if spans else None

    def take_finished(self) -> list[Trace]:
        """Hand out the traces that are whole: the root is there and nothing came for a while."""
        with self._lock:
            now = self._clock()
            return self._take(
                [
                    trace_id
                    for trace_id, touched in self._waiting.items()
                    if now - touched >= (SETTLE_S if self._has_root(trace_id) else ORPHAN_S)
                ]
            )

    def take_all(self) -> list[Trace]:
        """Hand out those that are left, as they are."""
        with self._lock:
            return self._take(list(self._waiting))

    def take_dropped(self) -> int:
        """How many spans were not handed out since this was called last."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def _add(self, span: Span) -> None:
        trace = self._traces.setdefault(span.trace_id, {})
        if span.span_id in trace:
            return
        has_place = len(trace) < MAX_SPANS
        if has_place:
            trace[span.span_id] = span
            self._bytes += _bytes(span)
        if has_place and (span.trace_id in self._waiting or len(self._waiting) < MAX_WAITING):
            self._waiting[span.trace_id] = self._clock()
        else:
            self._dropped += 1

    def _has_root(self, trace_id: str) -> bool:
        return any(not span.parent_id for span in self._traces[trace_id].values())

    def _take(self, ids: Sequence[str]) -> list[Trace]:
        for trace_id in ids:
            del self._waiting[trace_id]
        return [Trace(list(self._traces[trace_id].values())) for trace_id in ids]


def receiver(take: Callable[[Iterable[Span]], None]) -> Receiver:
    """A receiver that hands on what the services export as spans whose texts are safe to print."""

    def each(resource: Attributes, spans: Sequence[trace_pb2.Span]) -> None:
        service = printable(str(resource.get("service.name", "")))
        take([span_of(service, span) for span in spans])

    return Receiver(each)


def _bytes(span: Span) -> int:
    holders = [span.attributes, *(event.attributes for event in span.events)]
    return SPAN_BYTES + sum(len(name) + len(value) for holder in holders for name, value in holder.items())
