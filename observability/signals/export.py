"""The way to the exporters, of what has ended: a bounded queue, a thread, and counts of the outcome."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from observability.mailbox import Mailbox
from observability.settings import Edge
from observability.signals.exporters import export
from observability.tally import Tally

END_S = 1.0  # what an export that has been ended may take to say so

T = TypeVar("T")


class ExportQueue(Generic[T]):
    """Batches what is put in for the exporters; what cannot be queued or delivered is dropped and counted.

    - what: what goes through it, as the counters telemetry_<what>_exported and telemetry_<what>_dropped say.
    - make: gives the exporters; it is called on the queue's thread, when there is the first batch to export,
      and again in a forked child: an exporter's channel does not survive a fork.
    - send: gives an exporter a batch, and returns how many were delivered and how many were lost.
    """

    def __init__(
        self,
        what: str,
        make: Callable[[], list[Any]],
        send: Callable[[Any, Sequence[T]], tuple[int, int]],
        edge: Edge,
        tally: Tally,
    ) -> None:
        self._exported, self._dropped = f"telemetry_{what}_exported", f"telemetry_{what}_dropped"
        self._make = make
        self._give = send
        self._tally = tally
        self._exporters: list[Any] | None = None
        self._beginning = threading.Lock()
        self.waiting: Mailbox[T] = Mailbox(
            what,
            self._export,
            lambda: tally.failure("export"),
            limit=edge.max_queue_size,
            batch=edge.max_export_batch_size,
            enough=edge.max_export_batch_size,
            delay_s=edge.schedule_delay_s,
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
        self.waiting.begin()

    def put(self, item: T) -> None:
        """Take what has ended; never waits."""
        if not self.waiting.put(item):
            self._tally.add(self._dropped, "shutdown" if self.waiting.is_closed else "queue_full")

    def end(self, timeout_s: float) -> None:
        """Export what waits, for at most timeout_s seconds; what is left then is dropped and counted."""
        self._tally.add(self._dropped, "shutdown", self.waiting.close(timeout_s))
        exporters, self._exporters = self._exporters or [], []
        for exporter in exporters:
            try:
                exporter.shutdown()  # ends an export that hangs
            except Exception:
                self._tally.failure("export")
        self.waiting.join(END_S)

    def _export(self, batch: list[T]) -> None:
        with suppress_instrumentation():
            if self._exporters is not None:
                self._send(batch, self._exporters)
                return
            with self._beginning:
                self._exporters = self._make()
                self._send(batch, self._exporters)

    def _send(self, batch: list[T], exporters: list[Any]) -> None:
        if not exporters:  # none of those that the settings name could be made
            self._tally.add(self._dropped, "export_failed", len(batch))
        for exporter in exporters:
            delivered, lost = self._give(exporter, batch)
            self._tally.add(self._exported, "", delivered)
            self._tally.add(self._dropped, "export_failed", lost)


class SpanQueue(ExportQueue[ReadableSpan], SpanProcessor):
    """Takes the sampled spans that the SDK's provider has ended."""

    def __init__(self, make: Callable[[], list[SpanExporter]], edge: Edge, tally: Tally) -> None:
        super().__init__("spans", make, export, edge, tally)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do before a span ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; never waits."""
        if span.context is not None and span.context.trace_flags.sampled:
            self.put(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits; False when it is not done in time."""
        return self.waiting.flush(timeout_millis / 1e3)

    def shutdown(self, timeout_s: float = 5.0) -> None:
        """Export what waits, for at most timeout_s seconds."""
        self.end(timeout_s)
