"""What starts the spans of calls: in our provider for a low price, in anybody's by its own tracer.

Sampler, resource, limits and ids are the provider's own.
"""

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, Tracer

from observability.spans import CURRENT_SPAN, SAMPLED, UNSAMPLED, CallSpan, Remote, Same


class SdkTracer:
    """Starts the spans of calls by a tracer of any provider."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(self, same: Same, context: Context, values: dict[str, Any], start_time: int) -> Span:
        """A span whose parent is the context's. values are its attributes besides those that are the same."""
        attributes = {**same.attributes, **values}
        return self._tracer.start_span(same.name, context, same.kind, attributes, start_time=start_time)


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

    def start_span(self, same: Same, context: Context, values: dict[str, Any], start_time: int) -> Span:
        """A span whose parent is the context's; one that does not record when the sampler says so.

        values are its attributes besides those that are the same, and become its own.
        """
        current: Any = context.get(CURRENT_SPAN)
        if type(current) is Remote:
            parent, trace_id, is_sampled, state = current, current.trace_id, current.is_sampled, None
        elif current is not None and (ids := current.get_span_context()).is_valid:
            parent, trace_id, state = current, f"{ids.trace_id:032x}", ids.trace_state
            is_sampled = bool(ids.trace_flags & SAMPLED)
        else:
            parent, trace_id, is_sampled, state = None, f"{self._ids.generate_trace_id():032x}", True, None
        span_id = self._ids.generate_span_id()
        # What the default sampler would decide, which is OpenTelemetry's own unless another is asked for.
        if self._sampler is not DEFAULT_ON or not is_sampled:
            told, number = {**same.attributes, **values}, int(trace_id, 16)
            chosen = self._sampler.should_sample(context, number, same.name, same.kind, told, ())
            if chosen.decision is Decision.DROP:
                return NonRecordingSpan(SpanContext(number, span_id, False, UNSAMPLED, chosen.trace_state))
            is_sampled, state = chosen.decision is Decision.RECORD_AND_SAMPLE, chosen.trace_state
            values.update(chosen.attributes or {})
        span = CallSpan(
            self, same, parent, trace_id, f"{span_id:016x}", is_sampled, state, values, start_time
        )
        self.processor.on_start(span, context)  # type: ignore[arg-type]
        return span
