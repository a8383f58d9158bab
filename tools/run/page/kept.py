"""The latest traces, as many as fit into a bound."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tools.run.traces import MAX_SPANS, Span
from tools.run.waterfall import Row, shape

MAX_BYTES = 16 * 1024 * 1024
SPAN_BYTES = 1000  # of a span without its texts, about


@dataclass(frozen=True)
class Trace:
    """A trace as it is now: more of its spans may come."""

    spans: Sequence[Span]

    @property
    def rows(self) -> list[Row]:
        """Its spans, parents before children."""
        return shape(self.spans)

    @property
    def root(self) -> Span:
        """The first span whose parent is not here."""
        known = {span.span_id for span in self.spans}
        return min(self.spans, key=lambda span: (span.parent_id in known, span.start_ns))

    @property
    def start_ns(self) -> int:
        """When the first span started."""
        return min(span.start_ns for span in self.spans)

    @property
    def milliseconds(self) -> float:
        """From the first start to the last end."""
        return max(0, max(span.end_ns for span in self.spans) - self.start_ns) / 1e6

    @property
    def services(self) -> list[str]:
        """The services that took part, in the order in which they did."""
        by_start = sorted(self.spans, key=lambda span: span.start_ns)
        return list(dict.fromkeys(span.service for span in by_start))

    @property
    def statuses(self) -> set[str]:
        """The statuses of its spans."""
        return {span.status for span in self.spans if span.status}

    @property
    def failed(self) -> bool:
        """Whether one of its spans failed."""
        return any(span.failed for span in self.spans)


class Call(NamedTuple):
    """Who calls whom, by what name."""

    caller: str
    called: str
    name: str


class Calls(NamedTuple):
    """How often a call was made, how often it failed, and how long the slowest took."""

    made: int
    failed: int
    slowest_ms: float


class Kept:
    """The traces that came last. Bounded: the oldest goes first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._traces: dict[str, dict[str, Span]] = {}
        self._bytes = 0

    def add(self, spans: Iterable[Span]) -> None:
        """Put each span to its trace."""
        with self._lock:
            for span in spans:
                trace = self._traces.setdefault(span.trace_id, {})
                if len(trace) < MAX_SPANS and span.span_id not in trace:
                    trace[span.span_id] = span
                    self._bytes += _bytes(span)
            while self._bytes > self._max_bytes:
                oldest = self._traces.pop(next(iter(self._traces)))
                self._bytes -= sum(map(_bytes, oldest.values()))

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


def calls(traces: Iterable[Trace]) -> Mapping[Call, Calls]:
    """What the traces say of who calls whom."""
    found: dict[Call, list[Span]] = {}
    for trace in traces:
        for call, span in _calls_of(trace):
            found.setdefault(call, []).append(span)
    return {
        call: Calls(
            len(spans),
            sum(span.failed for span in spans),
            max(span.end_ns - span.start_ns for span in spans) / 1e6,
        )
        for call, spans in sorted(found.items())
    }


def _calls_of(trace: Trace) -> Iterable[tuple[Call, Span]]:
    """Each call once: as the called recorded it, or as the caller did where the called records nothing."""
    by_id = {span.span_id: span for span in trace.spans}
    answered = Counter(span.parent_id for span in trace.spans if span.kind == "server")
    for span in trace.spans:
        if span.kind == "server":
            caller = by_id[span.parent_id].service if span.parent_id in by_id else "outside"
            yield Call(caller, span.service, span.name), span
        elif span.kind == "client" and span.span_id not in answered:
            said = span.attributes
            called = said.get("db.system.name") or said.get("server.address") or "unknown"
            yield Call(span.service, called, span.name), span


def _bytes(span: Span) -> int:
    holders = [span.attributes, *(event.attributes for event in span.events)]
    return SPAN_BYTES + sum(len(name) + len(value) for holder in holders for name, value in holder.items())
