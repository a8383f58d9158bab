"""The way of finished spans to the exporter: a queue with a limit, a thread, and counts of the outcome."""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, Counter, Gauge

from observability.failures import Failures
from observability.families import family, shared
from observability.spans import is_sampled

CLOSE_S = 0.5


class SpanQueue(SpanProcessor):
    """Batches sampled spans for the exporter. Full queue or failed export: the spans are dropped and counted.

    The limits are OpenTelemetry's: OTEL_BSP_MAX_QUEUE_SIZE spans wait (2048), OTEL_BSP_MAX_EXPORT_BATCH_SIZE
    go at once (512), at least every OTEL_BSP_SCHEDULE_DELAY milliseconds (5000). Raises ValueError when one
    of them is not a positive number.

    The thread and the exporter (make_exporter) are made when the first span has ended, and anew in a process
    that is forked: neither survives a fork.

    A span may end on a thread that is in the midst of this very class, when garbage is collected there and a
    dropped call ends by that. So on_end waits for no lock; SimpleQueue is made for this.
    """

    def __init__(
        self, make_exporter: Callable[[], SpanExporter], registry: CollectorRegistry, failures: Failures
    ) -> None:
        self._make_exporter, self._failures = make_exporter, failures
        self._limit = _positive(OTEL_BSP_MAX_QUEUE_SIZE, 2048)
        self._batch = min(_positive(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, 512), self._limit)
        self._delay_s = _positive(OTEL_BSP_SCHEDULE_DELAY, 5000) / 1e3
        self._exported = family(
            Counter, "telemetry_spans_exported_total", "Spans that the exporter delivered.", (), registry
        )
        dropped = family(
            Counter, "telemetry_spans_dropped_total", "Spans lost before delivery.", ("reason",), registry
        )
        self._full, self._failed, self._late = map(
            dropped.labels, ("queue_full", "export_failed", "shutdown")
        )
        self._length = family(
            Gauge, "telemetry_span_queue_length", "Spans that wait for the exporter.", (), registry
        )
        self._queue: deque[ReadableSpan] = deque()
        self._shared = shared()
        if not self._shared:
            self._length.set_function(self._queue.__len__)
        self._stopping = False
        self._begin()
        begin = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (again := begin()) and again())

    def _begin(self) -> None:
        """Begin in this process; the spans that a parent process left are the parent's to export."""
        self._queue.clear()
        self._exporter: SpanExporter | None = None
        self._thread: threading.Thread | None = None
        self._starting, self._idle = threading.Lock(), threading.Condition()
        self._work: SimpleQueue[None] = SimpleQueue()
        self._busy = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do before a span ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; never waits."""
        if not is_sampled(span):
            return
        if self._stopping:
            self._late.inc()
        elif len(self._queue) >= self._limit:
            self._full.inc()
        else:
            self._queue.append(span)
            self._measure()
            if self._thread is None:
                self._start()
            if len(self._queue) >= self._batch:
                self._wake()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits; False when it is not done in time."""
        self._wake()
        with self._idle:
            return self._idle.wait_for(lambda: not self._queue and not self._busy, timeout_millis / 1e3)

    def shutdown(self, timeout_s: float = 5.0) -> None:
        """Export what waits, for at most timeout_s; what is left then is dropped and counted."""
        if self._stopping:
            return
        self._stopping = True
        self._wake()
        if self._thread is not None:
            self._thread.join(max(timeout_s - CLOSE_S, 0))
            if self._exporter is not None:
                self._exporter.shutdown()  # ends an export that hangs
            self._thread.join(CLOSE_S)
        self._late.inc(len(self._queue))
        self._queue.clear()

    def _wake(self) -> None:
        if self._work.empty():
            self._work.put(None)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):  # somebody is at it
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="telemetry-export", daemon=True)
                thread.start()
                self._thread = thread
        finally:
            self._starting.release()

    def _measure(self) -> None:
        """Tell the length; shared metrics cannot ask for it."""
        if self._shared:
            self._length.set(len(self._queue))

    def _run(self) -> None:
        while not self._stopping:
            with suppress(Empty):
                self._work.get(timeout=self._delay_s)
            self._drain()
        self._drain()

    def _drain(self) -> None:
        """Export what is there now; what comes meanwhile waits for a batch to be full, or for the delay."""
        self._busy = True
        left = len(self._queue)
        while left > 0 or len(self._queue) >= self._batch:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch))]
            left -= len(batch)
            self._export(batch)
        with self._idle:
            self._busy = False
            self._idle.notify_all()

    def _export(self, batch: list[ReadableSpan]) -> None:
        try:
            with suppress_instrumentation():
                if self._exporter is None:
                    self._exporter = self._make_exporter()
                delivered = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:
            self._failures.count("export")
            delivered = False
        (self._exported if delivered else self._failed).inc(len(batch))
        self._measure()


def _positive(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{variable}: {text!r} is not allowed; give a whole number above 0, or leave it out")
    return int(text)
