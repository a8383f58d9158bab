"""What makes the spans of calls: light ones in our own provider, the SDK's or anybody's in any other case."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    Event,
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Span, Status
from opentelemetry.trace import TracerProvider as AnyProvider

from observability.signals.export import SpanQueue
from observability.signals.spans import SCHEMA_URL, SCOPE, Beginning, LightSpan, LightTracer

OUR_ATTRIBUTES = 48  # more than we ever set on a span
OUR_EVENT_ATTRIBUTES = 4
END_S = 5.0
MIN_S = 0.2  # what custom processors get at the end, even if the exporter took all the time


class Guarded(SpanProcessor):
    """A custom processor: what it raises is counted, and takes the span from nobody else."""

    def __init__(self, processor: SpanProcessor, failed: Callable[[], None]) -> None:
        self._processor = processor
        self._failed = failed

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Show it a span that starts."""
        self._try(lambda: self._processor.on_start(span, parent_context=parent_context))

    def _on_ending(self, span: SdkSpan) -> None:  # the SDK's name of a hook that is not stable yet
        self._try(lambda: self._processor._on_ending(span))

    def on_end(self, span: ReadableSpan) -> None:
        """Give it a span that has ended."""
        self._try(lambda: self._processor.on_end(span))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush it."""
        return self._try(lambda: self._processor.force_flush(timeout_millis)) is not False

    def shutdown(self) -> None:
        """Shut it down."""
        self._try(self._processor.shutdown)

    def _try(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception:
            self._failed()
            return False


class Processors(SynchronousMultiSpanProcessor):
    """The provider's processors: our own queue, then what users add, which sees every span from then on.

    flush hands out the records that have ended: their spans must be made before a flush means anything.
    """

    def __init__(
        self, queue: SpanProcessor | None, flush: Callable[[float], bool], failed: Callable[[], None]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flush = flush
        self._failed = failed
        self.has_custom = False
        if queue is not None:
            super().add_span_processor(queue)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor; the spans of calls are the SDK's own from now on."""
        self.has_custom = True
        super().add_span_processor(Guarded(span_processor, self._failed))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Make the spans of calls that have ended, and flush all processors."""
        return self._flush(timeout_millis / 1e3) and self.flush_made(timeout_millis)

    def shutdown(self) -> None:
        """Make the spans of calls that have ended, and shut all processors down."""
        self._flush(END_S)
        super().shutdown()

    def flush_made(self, timeout_millis: int) -> bool:
        """Flush all processors."""
        return super().force_flush(timeout_millis)


class CallSpans:
    """Starts and ends the spans of calls, in a provider of anybody's."""

    def __init__(self, provider: AnyProvider, version: str) -> None:
        self._tracer = provider.get_tracer(SCOPE, version, SCHEMA_URL)

    is_light = False  # whether a span costs nothing until somebody asks for it

    def start(self, begin: Callable[[], Beginning]) -> Span:
        """A span that begins like this."""
        name, parent, kind, attributes, started_ns, links = begin()
        return self._tracer.start_span(name, parent, kind, attributes, links, started_ns)

    def light(self, begin: Callable[[], Beginning]) -> Span:
        """The same where is_light says so: it does not begin before somebody asks for it."""
        return self.start(begin)

    def end(
        self, span: Span, attributes: Any, status: Status, events: Sequence[Event], ended_ns: int
    ) -> None:
        """Put on the span what is known at the end, and end it."""
        if span.is_recording():
            span.set_attributes(attributes)
            span.set_status(status)
            for event in events:
                span.add_event(event.name, event.attributes, event.timestamp)
        span.end(ended_ns)

    def begin(self) -> None:
        """Start again, as a forked child does."""

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002
        """Deliver the spans that have ended; a provider of somebody else's is theirs to flush."""
        return True

    def shutdown(self, timeout_s: float) -> None:
        """Deliver the spans that have ended, and stop."""


class OwnCallSpans(CallSpans):
    """The same in our own provider, where spans that nobody touches cost little.

    queue takes what is made of those. They are made only while there is no other processor, and no limit of
    the SDK could change them: everything else is left to the SDK.
    """

    def __init__(
        self,
        resource: Resource,
        sampler: Sampler | None,
        limits: SpanLimits,
        queue: SpanProcessor | None,
        flush: Callable[[float], bool],
        failed: Callable[[], None],
        version: str,
    ) -> None:
        self._failed = failed
        self._processors = Processors(queue, flush, failed)
        self._queue = queue
        self._limits = limits
        self._version = version
        self.provider = TracerProvider(
            sampler,
            resource,
            shutdown_on_exit=False,
            active_span_processor=self._processors,
            span_limits=limits,
        )
        self._has_room = _has_room(limits)
        super().__init__(self.provider, version)
        self.begin()

    def begin(self) -> None:
        """Start again, as a forked child does, where the provider has another resource."""
        self._light = LightTracer(self.provider, self._processors, self._limits, self._version, self._failed)

    @property
    def is_light(self) -> bool:  # type: ignore[override]
        """Whether a span costs nothing until somebody asks for it."""
        return self._has_room and not self._processors.has_custom

    def start(self, begin: Callable[[], Beginning]) -> Span:
        """A span that begins like this."""
        return self.light(begin) if self.is_light else super().start(begin)

    def light(self, begin: Callable[[], Beginning]) -> Span:
        """A span that does not begin before somebody asks for it."""
        return LightSpan(self._light, begin)

    def end(
        self, span: Span, attributes: Any, status: Status, events: Sequence[Event], ended_ns: int
    ) -> None:
        """Put on the span what is known at the end, and end it."""
        if isinstance(span, LightSpan):
            real = span.settle()
            if real is None:
                if self._queue is not None:
                    self._queue.on_end(self._light.readable(span, attributes, status, events, ended_ns))
                return
            span = real
        super().end(span, attributes, status, events, ended_ns)

    def flush(self, timeout_s: float) -> bool:
        """Deliver the spans that have ended, with all processors, within timeout_s seconds."""
        millis = int(timeout_s * 1e3)
        return bool(_within(timeout_s, lambda: self._processors.flush_made(millis)))

    def shutdown(self, timeout_s: float) -> None:
        """Deliver the spans that have ended, and stop all processors, within timeout_s seconds."""
        end = time.monotonic() + timeout_s
        if isinstance(self._queue, SpanQueue):
            self._queue.shutdown(timeout_s)
        _within(max(end - time.monotonic(), MIN_S), self._processors.shutdown)


def _within(timeout_s: float, act: Callable[[], Any]) -> Any:
    """What act returns; None when it is not done in time: a custom processor may take any time."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(act()), name="telemetry-end", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending, and starts no thread any more
        return act()
    thread.join(timeout_s)
    return results[0] if results else None


def _has_room(limits: SpanLimits) -> bool:
    """Whether no limit touches a span that has only what we set on it."""
    lengths = (limits.max_attribute_length, limits.max_span_attribute_length)
    counts = (
        (limits.max_span_attributes, OUR_ATTRIBUTES),
        (limits.max_events, 1),
        (limits.max_links, 1),
        (limits.max_event_attributes, OUR_EVENT_ATTRIBUTES),
    )
    return lengths == (None, None) and all(limit is None or limit >= ours for limit, ours in counts)
