"""The way of finished spans to the exporters: a bounded queue, a thread, and counts of the outcome."""

import threading
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from observability.mailbox import Mailbox
from observability.settings import Settings
from observability.signals.exporters import export
from observability.tally import Tally

END_S = 1.0  # what an export that has been ended may take to say so


class SpanQueue(SpanProcessor):
    """Batches sampled spans for the exporters; what cannot be queued or delivered is dropped and counted.

    make gives the exporters; it is called on the queue's thread, when there is the first span to export, and
    again in a forked child: an exporter's channel does not survive a fork.
    """

    def __init__(self, make: Callable[[], list[SpanExporter]], settings: Settings, tally: Tally) -> None:
        self._make = make
        self._tally = tally
        self._exporters: list[SpanExporter] | None = None
        self._beginning = threading.Lock()
        self.spans = Mailbox(
            "spans",
            self._export,
            lambda: tally.failure("export"),
            limit=settings.max_queue_size,
            batch=settings.max_export_batch_size,
            enough=settings.max_export_batch_size,
            delay_s=settings.schedule_delay_s,
        )

    def hold(self) -> None:
        """Before a fork: let a first export end. It imports modules, which a child could not go on with."""
        self._is_held = self._beginning.acquire(timeout=END_S)

    def release(self) -> None:
        """After it, in the parent."""
        if self._is_held:
            self._beginning.release()

    def begin(self) -> None:
        """Start from nothing, as a forked child does."""
        self._beginning = threading.Lock()
        self._exporters = None
        self.spans.begin()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do before a span ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; never waits."""
        if span.context is not None and span.context.trace_flags.sampled and not self.spans.put(span):
            reason = "shutdown" if self.spans.is_closed else "queue_full"
            self._tally.add("telemetry_spans_dropped", reason)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits; False when it is not done in time."""
        return self.spans.flush(timeout_millis / 1e3)

    def shutdown(self, timeout_s: float = 5.0) -> None:
        """Export what waits, for at most timeout_s seconds; what is left then is dropped and counted."""
        self._tally.add("telemetry_spans_dropped", "shutdown", self.spans.close(timeout_s))
        exporters, self._exporters = self._exporters or [], []
        for exporter in exporters:
            try:
                exporter.shutdown()  # ends an export that hangs
            except Exception:
                self._tally.failure("export")
        self.spans.join(END_S)

    def _export(self, batch: list[ReadableSpan]) -> None:
        with suppress_instrumentation():
            if self._exporters is not None:
                self._send(batch, self._exporters)
                return
            with self._beginning:
                self._exporters = self._make()
                self._send(batch, self._exporters)

    def _send(self, batch: list[ReadableSpan], exporters: list[SpanExporter]) -> None:
        if not exporters:  # none of those that the settings name could be made
            self._tally.add("telemetry_spans_dropped", "export_failed", len(batch))
        for exporter in exporters:
            delivered, lost = export(exporter, batch)
            self._tally.add("telemetry_spans_exported", "", delivered)
            self._tally.add("telemetry_spans_dropped", "export_failed", lost)
