"""A trace as rows: who, what, how it ended, and when in the trace it ran. No terminal here."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tools.run.traces import Span


@dataclass(frozen=True)
class Row:
    """A span's place in the picture; offset and share are parts, from 0 to 1, of the trace's time."""

    span: Span
    depth: int
    milliseconds: float
    offset: float
    share: float


def shape(spans: Iterable[Span]) -> list[Row]:
    """The spans in the order of a tree, parents before children, siblings by their start."""
    ordered = sorted(spans, key=lambda span: span.start_ns)
    start_ns = min(span.start_ns for span in ordered)
    # A child's clock may differ from its parent's: the window spans all of them, and no time is negative.
    total_ns = max(1, *(span.end_ns - start_ns for span in ordered))
    return [_row(span, depth, start_ns, total_ns) for span, depth in _tree(ordered)]


def bar(row: Row, width: int, mark: str) -> str:
    """When the span ran, as at least one mark on a line of the given width."""
    start = min(int(row.offset * width), width - 1)
    length = min(max(round(row.share * width), 1), width - start)
    return (" " * start + mark * length).ljust(width)


def _row(span: Span, depth: int, start_ns: int, total_ns: int) -> Row:
    duration_ns = max(span.end_ns - span.start_ns, 0)
    return Row(
        span,
        depth,
        duration_ns / 1e6,
        (span.start_ns - start_ns) / total_ns,
        min(duration_ns / total_ns, 1.0),
    )


def _tree(spans: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    known = {span.span_id for span in spans}
    left = {span.span_id: span for span in spans}
    roots = [span for span in spans if span.parent_id not in known]
    # After the roots every span once more: those in a ring of parents have no root, and must not be lost.
    for span in [*roots, *spans]:
        yield from _branch(span, 0, left)


def _branch(span: Span, depth: int, left: dict[str, Span]) -> Iterator[tuple[Span, int]]:
    if left.pop(span.span_id, None) is None:
        return
    yield span, depth
    for child in [other for other in left.values() if other.parent_id == span.span_id]:
        yield from _branch(child, depth + 1, left)
