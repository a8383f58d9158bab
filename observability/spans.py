"""Spans of calls, made for a low price: what the SDK's do for any use, done for these alone.

They are the SDK's ReadableSpan to exporters and OpenTelemetry's Span to handlers.
"""

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

if TYPE_CHECKING:
    from observability.tracers import CallTracer

PLAIN = frozenset({str, int, float, bool})
# set_span_in_context and get_current_span cost several times what they do; this is where they keep the span.
(CURRENT_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
UNSET = Status(StatusCode.UNSET)
SAMPLED, UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)


@dataclass(frozen=True, eq=False)
class Same:
    """What is the same for the spans of a method, so that it is made, and encoded, once."""

    name: str
    kind: SpanKind
    attributes: Mapping[str, Any]


class Remote(NonRecordingSpan):
    """The caller's span as its header tells of it; ids are hexadecimal, the context is made on demand."""

    def __init__(self, trace_id: str, span_id: str, flags: TraceFlags) -> None:
        self.trace_id, self.span_id, self._flags = trace_id, span_id, flags
        self.is_sampled = bool(flags & SAMPLED)

    @cached_property
    def _context(self) -> SpanContext:  # type: ignore[override]
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), True, self._flags)


class CallSpan(Span, ReadableSpan):
    """The span of one call; ids are hexadecimal, and what the SDK makes of them is made on demand.

    above is the span that it is a child of. values are its attributes, besides those that are the same for
    all spans of the method.
    """

    _events: tuple[Event, ...] = ()
    _links: tuple[Link, ...] = ()
    _status = UNSET
    _end_time: int | None = None
    _dropped = 0

    def __init__(
        self,
        tracer: "CallTracer",
        same: Same,
        above: Span | None,
        trace_id: str,
        span_id: str,
        is_sampled: bool,
        state: TraceState | None,
        values: dict[str, Any],
        start_time: int,
    ) -> None:
        # Not ReadableSpan's own, which costs twice as much; what is the same for all spans is the tracer's.
        self.tracer, self.same, self.above, self.values = tracer, same, above, values
        self.trace_id, self.span_id, self.is_sampled, self.state = trace_id, span_id, is_sampled, state
        self._name, self._start_time = same.name, start_time

    @cached_property
    def _context(self) -> SpanContext:  # type: ignore[override]
        flags = SAMPLED if self.is_sampled else UNSAMPLED
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), False, flags, self.state)

    @property
    def _parent(self) -> SpanContext | None:  # type: ignore[override]
        return None if self.above is None else self.above.get_span_context()

    @property
    def is_plain(self) -> bool:
        """Whether it has no list among its attributes, all of these, and no event, link or vendor's state."""
        return (
            not (self._events or self._links or self._dropped or self.state)
            and self._name is self.same.name
            and PLAIN.issuperset(map(type, self.values.values()))
            and self.same.attributes.keys().isdisjoint(self.values)
        )

    @property
    def _attributes(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {**self.same.attributes, **self.values}

    @property
    def _kind(self) -> SpanKind:  # type: ignore[override]
        return self.same.kind

    @property
    def resource(self) -> Resource:
        """The service."""
        return self.tracer.resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """This package."""
        return self.tracer.scope

    @property
    def dropped_attributes(self) -> int:
        """How many were over the limit."""
        return self._dropped

    def get_span_context(self) -> SpanContext:
        """The span's ids."""
        return self._context

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return self._end_time is None

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute; a value of a type that is not allowed is left out with a warning."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes; those over the limit are counted, and left out."""
        most, longest, _ = self.tracer.limits
        if longest is not None or not PLAIN.issuperset(map(type, attributes.values())):
            attributes = BoundedAttributes(None, dict(attributes), immutable=False, max_value_len=longest)
        have = len(self.same.attributes) + len(self.values)
        if self._end_time is None and (most is None or have + len(attributes) <= most):
            self.values.update(attributes)
            return
        for key, value in attributes.items():
            known = key in self.values or key in self.same.attributes
            if self._end_time is not None or (most is not None and have >= most and not known):
                self._dropped += 1
            else:
                self.values[key] = value
                have += not known

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Add an event, while there is room."""
        most = self.tracer.limits[2]
        if self._end_time is None and (most is None or len(self._events) < most):
            kept = BoundedAttributes(None, dict(attributes or {}), immutable=False)
            self._events = (*self._events, Event(name, kept, timestamp or time.time_ns()))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Link another span."""
        if self._end_time is None:
            self._links = (*self._links, Link(context, attributes))

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if self._end_time is None:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went; OK is final."""
        if self._status.status_code is not StatusCode.OK and self._end_time is None:
            self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an exception event, with its stack."""
        kind = type(exception)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        told: dict[str, Any] = {
            "exception.type": name,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", told | dict(attributes or {}), timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span, once."""
        if self._end_time is None:
            self._end_time = end_time or time.time_ns()
            self.tracer.processor.on_end(self)


def is_sampled(span: ReadableSpan) -> bool:
    """Whether the span is to be exported."""
    if isinstance(span, CallSpan):
        return span.is_sampled
    return span.context is not None and span.context.trace_flags.sampled
