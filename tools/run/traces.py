"""Collects spans into traces, until each trace is complete."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from opentelemetry.proto.trace.v1 import trace_pb2

from observability.receiver import Attributes, Receiver, attributes
from tools.run.text import printable

SETTLE_S = 1.0  # the services export every 0.3 s
ORPHAN_S = 3.0  # for a root that may never come: it ran elsewhere, or was lost
MAX_TRACES = 50
MAX_SPANS = 100
MAX_ATTRIBUTES = 64
MAX_EVENTS = 16
MAX_VALUE = 4000  # a stack
STATUS_ATTRIBUTES = ("rpc.status_code", "http.response.status_code")


@dataclass(frozen=True)
class Event:
    """Something that happened within a span."""

    name: str
    time_ns: int
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Span:
    """What is shown of a span, its texts safe to print."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    status: str
    failed: bool
    start_ns: int
    end_ns: int
    kind: str = ""
    message: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[Event] = ()


@dataclass
class _Pending:
    spans: dict[str, Span] = field(default_factory=dict)
    touched: float = 0.0

    def is_finished(self, now: float) -> bool:
        has_root = any(not span.parent_id for span in self.spans.values())
        return now - self.touched >= (SETTLE_S if has_root else ORPHAN_S)


class Traces:
    """The traces that wait for more of their spans. Bounded: what comes above is dropped and counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}
        self._dropped = 0

    def add(self, spans: Iterable[Span]) -> None:
        """Put each span to its trace."""
        with self._lock:
            for span in spans:
                self._add(span)

    def take_finished(self) -> list[list[Span]]:
        """Hand out, once, the traces that are whole: the root is there and nothing came for a while."""
        with self._lock:
            now = self._clock()
            ids = [trace_id for trace_id, trace in self._pending.items() if trace.is_finished(now)]
            return self._take(ids)

    def take_all(self) -> list[list[Span]]:
        """Hand out every trace as it is."""
        with self._lock:
            return self._take(list(self._pending))

    def take_dropped(self) -> int:
        """How many spans were dropped since this was called last."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def _add(self, span: Span) -> None:
        if span.trace_id not in self._pending and len(self._pending) < MAX_TRACES:
            self._pending[span.trace_id] = _Pending()
        trace = self._pending.get(span.trace_id)
        if trace is None or len(trace.spans) >= MAX_SPANS:
            self._dropped += 1
            return
        trace.spans[span.span_id] = span
        trace.touched = self._clock()

    def _take(self, ids: Iterable[str]) -> list[list[Span]]:
        return [list(self._pending.pop(trace_id).spans.values()) for trace_id in ids]


def receiver(take: Callable[[Iterable[Span]], None]) -> Receiver:
    """A receiver that hands on what the services export as spans whose texts are safe to print."""

    def each(resource: Attributes, spans: Sequence[trace_pb2.Span]) -> None:
        service = printable(str(resource.get("service.name", "")))
        take([span_of(service, span) for span in spans])

    return Receiver(each)


def span_of(service: str, span: trace_pb2.Span) -> Span:
    """What is shown of a span that came by OTLP."""
    said = attributes(span.attributes)
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    status = next((str(said[name]) for name in STATUS_ATTRIBUTES if said.get(name)), "")
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        name=printable(span.name),
        status=printable(status) or ("ERROR" if failed else ""),
        failed=failed,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        message=printable(span.status.message),
        attributes=_texts(said),
        events=[
            Event(printable(event.name), event.time_unix_nano, _texts(attributes(event.attributes)))
            for event in span.events[:MAX_EVENTS]
        ],
    )


def _texts(values: Attributes) -> dict[str, str]:
    kept = islice(values.items(), MAX_ATTRIBUTES)
    return {printable(name): printable(str(value), MAX_VALUE, "\n") for name, value in kept}
