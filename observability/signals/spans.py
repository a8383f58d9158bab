"""The spans of calls: nothing of them is made before somebody asks for it, or the call has ended."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    TraceFlags,
    get_current_span,
)

from observability.handing_on import handing_on

SCOPE = "observability"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.45.0"


class Beginning(NamedTuple):
    """What a span starts with; its parent is the span of that context."""

    name: str
    parent: Context
    kind: SpanKind
    attributes: Mapping[str, Any]
    started_ns: int
    links: Sequence[Link] = ()


class LightSpan(handing_on(Span)):  # type: ignore[misc]
    """The span of a call: first only how it begins, then ids, when they are asked for; the first touch makes
    it the SDK's.

    It has all that the SDK's span has, because whatever is asked of it, but its ids, the SDK's span answers.
    """

    _context = INVALID_SPAN.get_span_context()  # until it is open

    def __init__(self, tracer: "LightTracer", begin: Callable[[], Beginning]) -> None:
        self._tracer = tracer
        self.begin: Callable[[], Beginning] | None = begin
        self._real: Span | None = None

    def get_span_context(self) -> SpanContext:
        """The span's ids."""
        if self.begin is not None:
            self._tracer.open(self)
        return self._context

    def is_recording(self) -> bool:
        """Whether it is sampled and has not ended."""
        self.get_span_context()
        return self._real is None or self._real.is_recording()

    def opening(self) -> Callable[[], Beginning] | None:
        """How it begins; None when it has begun, or its own sampler asks, for which there is no span yet."""
        if self.begin is None or self._real is not None:
            return None
        self._real = INVALID_SPAN
        return self.begin

    def opened(self, context: SpanContext, beginning: Beginning, real: Span | None) -> None:
        """Take the ids."""
        self._context = context
        self.beginning = beginning
        self._real = real
        self.begin = None

    @property
    def inner(self) -> Span:
        """The SDK's span, which this one is from now on; one that does not record when the call has ended."""
        context = self.get_span_context()
        with self._tracer.lock:
            if self._real is None:
                self._real = self._tracer.make(context, self.beginning)
            return self._real

    def settle(self) -> Span | None:
        """The SDK's span if there is one; else there will be none any more."""
        context = self.get_span_context()
        with self._tracer.lock:
            real = self._real
            if real is None:
                self._real = NonRecordingSpan(context)
            return real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)


class PlainSpan(ReadableSpan):
    """The span of a call that nobody has touched, and that did not raise."""


class LightTracer:
    """Opens light spans: sampler, ids, resource and limits are the provider's. failed counts a failure."""

    def __init__(
        self,
        provider: TracerProvider,
        processor: Any,
        limits: SpanLimits,
        version: str,
        failed: Callable[[], None],
    ) -> None:
        self._sampler = provider.sampler
        self._ids = provider.id_generator
        self._resource = provider.resource
        self._failed = failed
        self.lock = threading.RLock()
        self._replay = Replay()
        again = TracerProvider(
            sampler=self._replay,
            id_generator=self._replay,
            resource=provider.resource,
            shutdown_on_exit=False,
            active_span_processor=processor,
            span_limits=limits,
        )
        self._tracer = again.get_tracer(SCOPE, version, SCHEMA_URL)
        self._scope = InstrumentationScope(SCOPE, version, SCHEMA_URL)

    def open(self, span: LightSpan) -> None:
        """Give the span its ids, as its parent and the sampler have it."""
        with self.lock:
            begin = span.opening()
            if begin is None:
                return
            try:
                span.opened(*self._opened(begin()))
            except Exception:  # a propagator or a sampler may raise, and somebody's handler is not to see it
                self._failed()
                span.opened(INVALID_SPAN.get_span_context(), NOTHING, INVALID_SPAN)

    def _opened(self, beginning: Beginning) -> tuple[SpanContext, Beginning, Span | None]:
        name, parent, kind, attributes, _, links = beginning
        above = get_current_span(parent).get_span_context()
        if above.is_valid:
            trace_id, flags = above.trace_id, above.trace_flags & TraceFlags.RANDOM_TRACE_ID
        else:
            trace_id = self._ids.generate_trace_id()
            flags = TraceFlags.RANDOM_TRACE_ID if self._ids.is_trace_id_random() else 0
        result = self._sampler.should_sample(parent, trace_id, name, kind, dict(attributes), links)
        if result.decision.is_sampled():  # type: ignore[no-untyped-call]
            flags |= TraceFlags.SAMPLED
        span_id = self._ids.generate_span_id()
        context = SpanContext(trace_id, span_id, False, TraceFlags(flags), result.trace_state)
        beginning = beginning._replace(attributes=result.attributes)
        if not result.decision.is_recording():  # type: ignore[no-untyped-call]
            return context, beginning, NonRecordingSpan(context)
        # What a sampler has added may be anything, and more than the limits: the SDK's span has the rules.
        real = None if result.attributes == attributes else self.make(context, beginning)
        return context, beginning, real

    def make(self, context: SpanContext, beginning: Beginning) -> Span:
        """The SDK's span with those ids."""
        name, parent, kind, attributes, started_ns, links = beginning
        self._replay.of(context, attributes)
        return self._tracer.start_span(name, parent, kind, attributes, links, started_ns)

    def readable(
        self,
        span: LightSpan,
        attributes: Mapping[str, Any],
        status: Status,
        events: Sequence[Event],
        ended_ns: int,
    ) -> ReadableSpan:
        """The span as exporters take it, for one that nobody has touched."""
        name, parent, kind, given, started_ns, links = span.beginning
        above = get_current_span(parent).get_span_context()
        made = ReadableSpan if events else PlainSpan
        return made(
            name=name,
            context=span.get_span_context(),
            parent=above if above.is_valid else None,
            resource=self._resource,
            attributes={**given, **attributes},
            events=events,
            links=links,
            kind=kind,
            status=status,
            start_time=started_ns,
            end_time=ended_ns,
            instrumentation_scope=self._scope,
        )


class Replay(Sampler, IdGenerator):
    """Decides again what was decided for a light span, while the SDK makes the real one."""

    def __init__(self) -> None:
        self._local = threading.local()

    def of(self, context: SpanContext, attributes: Mapping[str, Any]) -> None:
        """Let this thread's next span be the one of these ids."""
        self._local.context = context
        self._local.attributes = attributes

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        """Record it, and sample it if it was sampled."""
        context: SpanContext = self._local.context
        decision = Decision.RECORD_AND_SAMPLE if context.trace_flags.sampled else Decision.RECORD_ONLY
        return SamplingResult(decision, self._local.attributes, context.trace_state)

    def get_description(self) -> str:
        """A name for people."""
        return "Replay"

    def generate_trace_id(self) -> int:
        """The span's trace id."""
        context: SpanContext = self._local.context
        return context.trace_id

    def generate_span_id(self) -> int:
        """The span's id."""
        context: SpanContext = self._local.context
        return context.span_id

    def is_trace_id_random(self) -> bool:
        """Whether the trace id is flagged as random."""
        context: SpanContext = self._local.context
        return bool(context.trace_flags & TraceFlags.RANDOM_TRACE_ID)


NOTHING = Beginning("", Context(), SpanKind.INTERNAL, {}, 0)
