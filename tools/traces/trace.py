"""A trace: its spans as they are shown, and their place in its picture."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from opentelemetry.proto.trace.v1 import trace_pb2

from observability.receiver import Attributes, attributes
from tools.traces.text import printable

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

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return max(0, self.end_ns - self.start_ns) / 1e6


class Row(NamedTuple):
    """A span's place in the picture; offset and share are parts, from 0 to 1, of the trace's time."""

    span: Span
    depth: int
    offset: float
    share: float


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


def shape(spans: Iterable[Span]) -> list[Row]:
    """The spans in the order of a tree, parents before children, siblings by their start."""
    ordered = sorted(spans, key=lambda span: span.start_ns)
    left = {span.span_id for span in ordered}
    roots = [span for span in ordered if span.parent_id not in left]
    start_ns = ordered[0].start_ns
    # A child's clock may differ from its parent's: the window spans all of them, and no time is negative.
    total_ns = max(1, *(span.end_ns - start_ns for span in ordered))

    def branch(span: Span, depth: int) -> Iterator[Row]:
        if span.span_id not in left:
            return
        left.remove(span.span_id)
        share = min(span.milliseconds * 1e6 / total_ns, 1.0)
        yield Row(span, depth, (span.start_ns - start_ns) / total_ns, share)
        for child in ordered:
            if child.parent_id == span.span_id:
                yield from branch(child, depth + 1)

    # After the roots every span once more: those in a ring of parents have no root, and must not be lost.
    return [row for span in [*roots, *ordered] for row in branch(span, 0)]


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
