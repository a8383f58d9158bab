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
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
)

PLAIN = frozenset({str, int, float, bool})
UNSET = Status(StatusCode.UNSET)


class CallTracer:
    """Starts the spans of calls; processor gets each when it ends."""

    def __init__(self, provider: TracerProvider, processor: SpanProcessor | None, version: str) -> None:
        self._sampler, self._ids = provider.sampler, provider.id_generator
        self._provider, self._processor = provider, processor
        self._scope = InstrumentationScope("observability", version)
        limits = SpanLimits()
        self._limits = (limits.max_span_attributes, limits.max_attribute_length, limits.max_events)

    def start_span(
        self, name: str, context: Context, kind: SpanKind, values: dict[str, Any], start_time: int
    ) -> Span:
        """A span whose parent is the context's; one that does not record when the sampler says so.

        values are its attributes, and become its own.
        """
        parent: SpanContext | None = get_current_span(context).get_span_context()
        if parent is None or not parent.is_valid:
            parent, trace_id = None, self._ids.generate_trace_id()
        else:
            trace_id = parent.trace_id
        chosen = self._sampler.should_sample(context, trace_id, name, kind, values, ())
        flags = TraceFlags(
            TraceFlags.SAMPLED if chosen.decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT
        )
        ids = SpanContext(trace_id, self._ids.generate_span_id(), False, flags, chosen.trace_state)
        if chosen.decision is Decision.DROP:
            return NonRecordingSpan(ids)
        if chosen.attributes:
            values.update(chosen.attributes)
        span = CallSpan(
            name, ids, parent, self._provider.resource, values, [], (), kind,
            start_time=start_time, instrumentation_scope=self._scope,
        )  # fmt: skip
        span.made(self._processor, self._limits, values)
        if self._processor is not None:
            self._processor.on_start(span, context)  # type: ignore[arg-type]
        return span


class CallSpan(Span, ReadableSpan):
    """The span of one call."""

    def made(
        self,
        processor: SpanProcessor | None,
        limits: tuple[int | None, int | None, int | None],
        values: dict[str, Any],
    ) -> None:
        """Say where the span goes at its end, and its limits: attributes, length of one, events."""
        self._processor, self._limits, self.values = processor, limits, values
        self._state = UNSET
        self._ended_ns: int | None = None
        self._dropped = 0
        self.is_plain = all(
            type(value) in PLAIN for value in values.values()
        )  # no event, no link, no list among the values

    @property
    def status(self) -> Status:
        """Unset, or an error."""
        return self._state

    @property
    def end_time(self) -> int | None:
        """Nanoseconds since the epoch; None before the end."""
        return self._ended_ns

    @property
    def dropped_attributes(self) -> int:
        """How many were over the limit."""
        return self._dropped

    def get_span_context(self) -> SpanContext:
        """The span's ids."""
        return self._context  # type: ignore[return-value]

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return self._ended_ns is None

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute; a value of a type that is not allowed is left out with a warning."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes; those over the limit are counted, and left out."""
        most, longest, _ = self._limits
        if longest is None and PLAIN.issuperset(map(type, attributes.values())):
            if self._ended_ns is None and (most is None or len(self.values) + len(attributes) <= most):
                self.values.update(attributes)
                return
        else:
            self.is_plain = False
            attributes = BoundedAttributes(None, dict(attributes), immutable=False, max_value_len=longest)
        for key, value in attributes.items():
            if self._ended_ns is not None or (
                most is not None and len(self.values) >= most and key not in self.values
            ):
                self._dropped += 1
            else:
                self.values[key] = value

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Add an event, while there is room."""
        most = self._limits[2]
        if self._ended_ns is None and (most is None or len(self._events) < most):
            self.is_plain = False
            kept = BoundedAttributes(None, dict(attributes or {}), immutable=False)
            self._events.append(Event(name, kept, timestamp or time.time_ns()))  # type: ignore[attr-defined]

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Link another span."""
        if self._ended_ns is None:
            self.is_plain = False
            self._links = (*self._links, Link(context, attributes))

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if self._ended_ns is None:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went; OK is final."""
        if self._state.status_code is not StatusCode.OK and self._ended_ns is None:
            self._state = status if isinstance(status, Status) else Status(status, description)

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
        if self._ended_ns is None:
            self._ended_ns = end_time or time.time_ns()
            if self._processor is not None:
                self._processor.on_end(self)
