"""Telemetry's metrics about itself: what it lost, what failed, what is queued."""

from collections import Counter as Totals
from collections.abc import Callable
from typing import Any

from prometheus_client import Counter, Gauge

from observability.signals.families import Families
from observability.tally import Tally

ENDS = ("queue_full", "shutdown")
SIGNALS = (
    "client", "exclude", "export", "hook", "http", "journal", "logs", "metrics", "public_endpoint", "redact",
    "server", "stack", "tracing",
)  # fmt: skip
# By name: what it says, its label, and the values that are there from the start, at zero.
COUNTERS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "telemetry_signal_failures": ("Times that telemetry itself failed.", ("signal",), SIGNALS),
    "telemetry_records_dropped": ("Records lost to traces, logs and histograms.", ("reason",), ENDS),
    "telemetry_spans_dropped": ("Spans lost before delivery.", ("reason",), (*ENDS, "export_failed")),
    "telemetry_spans_exported": ("Spans that the exporter delivered.", (), ()),
    "telemetry_log_records_dropped": (
        "Log lines lost before delivery.", ("reason",), (*ENDS, "export_failed"),
    ),
    "telemetry_log_records_exported": ("Log lines that the exporter delivered.", (), ()),
    "telemetry_log_lines_dropped": (
        "Log lines lost before they were written.", ("reason",), (*ENDS, "write_failed"),
    ),
}  # fmt: skip
QUEUES = {
    "telemetry_record_queue_length": "Records that wait for the signals.",
    "telemetry_span_queue_length": "Spans that wait for the exporter.",
    "telemetry_log_record_queue_length": "Log lines that wait for the exporter.",
    "telemetry_log_queue_length": "Log lines that wait for standard output.",
}


class OwnMetrics:
    """Publishes the tally and the lengths of the queues."""

    def __init__(self, families: Families, tally: Tally) -> None:
        self._tally = tally
        self._counters = {
            name: families.family(Counter, f"{name}_total", text, labels)
            for name, (text, labels, _) in COUNTERS.items()
        }
        for name, (_, _, values) in COUNTERS.items():
            for value in values:
                self._counters[name].labels(value)
        self._lengths = {name: families.family(Gauge, name, text) for name, text in QUEUES.items()}
        self._queues: dict[str, Callable[[], int]] = {}
        self._published: Totals[tuple[str, str]] = Totals()

    def watch(self, name: str, length: Callable[[], int]) -> None:
        """Publish the length of a queue, under one of the names above."""
        self._queues[name] = length

    def publish(self) -> None:
        """Bring the families up to date."""
        for (name, label), count in self._tally.counts().items():
            family: Any = self._counters[name]
            (family.labels(label) if label else family).inc(count - self._published[name, label])
            self._published[name, label] = count
        for name, length in self._queues.items():
            self._lengths[name].set(length())

    def begin(self) -> None:
        """Start from nothing, as a forked child does."""
        self._published.clear()
