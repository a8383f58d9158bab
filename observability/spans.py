"""Spans of calls, made for a low price: what the SDK's tracer does for any span, done for these alone.

They are the SDK's ReadableSpan to exporters and OpenTelemetry's Span to handlers. Sampler, resource, limits
and ids are the provider's own.
"""

import time
import traceback
from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision
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
    set_span_in_context,
)

PLAIN = frozenset({str, int, float, bool})
# set_span_in_context and get_current_span cost several times what they do; this is where they keep the span.
(CURRENT_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
UNSET = Status(StatusCode.UNSET)
SAMPLED, UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)


class CallTracer:
    """Starts the spans of calls; processor, which is all that the provider has, hears of each.

    limits are those of a span: attributes, length of one, events.
    """

    def __init__(self, provider: TracerProvider, processor: SpanProcessor, version: str) -> None:
        self._sampler, self._ids = provider.sampler, provider.id_generator
        self.resource, self.processor = provider.resource, processor
        self.scope = InstrumentationScope("observability", version)
        limits = SpanLimits()
        self.limits = (limits.max_span_attributes, limits.max_attribute_length, limits.max_events)

    def start_span(
        self, name: str, context: Context, kind: SpanKind, values: dict[str, Any], start_time: int
    ) -> Span:
        """A span whose parent is the context's; one that does not record when the sampler says so.

        values are its attributes, and become its own.
        """
        current: Any = context.get(CURRENT_SPAN)
        parent: SpanContext | None = current.get_span_context() if current is not None else None
        if parent is None or not parent.is_valid:
            parent, trace_id = None, self._ids.generate_trace_id()
        else:
            trace_id = parent.trace_id
        if self._sampler is DEFAULT_ON and (parent is None or parent.trace_flags & SAMPLED):
            # What that sampler would decide, which is OpenTelemetry's own unless another is asked for.
            ids = SpanContext(
                trace_id, self._ids.generate_span_id(), False, SAMPLED, parent.trace_state if parent else None
            )
        else:
            chosen = self._sampler.should_sample(context, trace_id, name, kind, values, ())
            flags = SAMPLED if chosen.decision is Decision.RECORD_AND_SAMPLE else UNSAMPLED
            ids = SpanContext(trace_id, self._ids.generate_span_id(), False, flags, chosen.trace_state)
            if chosen.decision is Decision.DROP:
                return NonRecordingSpan(ids)
            values.update(chosen.attributes or {})
        span = CallSpan(self, name, ids, parent, kind, values, start_time)
        self.processor.on_start(span, context)  # type: ignore[arg-type]
        return span


class CallSpan(Span, ReadableSpan):
    """The span of one call.

    values are its attributes. A plain span has all that were set, none of them a list, and no event, link or
    state of other vendors.
    """

    _events: tuple[Event, ...] = ()
    _links: tuple[Link, ...] = ()
    _dropped = 0

    def __init__(
        self,
        tracer: CallTracer,
        name: str,
        ids: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        values: dict[str, Any],
        start_time: int,
    ) -> None:
        # Not ReadableSpan's own, which costs twice as much; what is the same for all spans is the tracer's.
        self.tracer = tracer
        self._name, self._context, self._parent, self._kind = name, ids, parent, kind
        self._attributes = self.values = values
        self._start_time, self._end_time = start_time, None
        self._status = UNSET
        self.is_plain = not ids.trace_state and _are_plain(values)

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
        return self._context  # type: ignore[return-value]

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return self._end_time is None

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute; a value of a type that is not allowed is left out with a warning."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes; those over the limit are counted, and left out."""
        most, longest, _ = self.tracer.limits
        if longest is None and _are_plain(attributes):
            if self._end_time is None and (most is None or len(self.values) + len(attributes) <= most):
                self.values.update(attributes)
                return
        else:
            self.is_plain = False
            attributes = BoundedAttributes(None, dict(attributes), immutable=False, max_value_len=longest)
        for key, value in attributes.items():
            if self._end_time is not None or (
                most is not None and len(self.values) >= most and key not in self.values
            ):
                self._dropped, self.is_plain = self._dropped + 1, False
            else:
                self.values[key] = value

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Add an event, while there is room."""
        most = self.tracer.limits[2]
        if self._end_time is None and (most is None or len(self._events) < most):
            self.is_plain = False
            kept = BoundedAttributes(None, dict(attributes or {}), immutable=False)
            self._events = (*self._events, Event(name, kept, timestamp or time.time_ns()))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Link another span."""
        if self._end_time is None:
            self.is_plain = False
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


def _are_plain(values: Mapping[str, Any]) -> bool:
    return PLAIN.issuperset(map(type, values.values()))
