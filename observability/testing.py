"""For tests: telemetry that stays in memory, and a way to wait for what happens on another thread."""

import io
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from observability.telemetry import Telemetry

T = TypeVar("T")


class MemoryTelemetry(Telemetry):
    """Telemetry whose spans, metrics and log lines can be asked for; it takes the arguments of Telemetry.

    Each of them flushes first, so it includes every call that has ended.
    """

    def __init__(self, service: str = "test", **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._text = io.StringIO()
        own: dict[str, Any] = {"registry": CollectorRegistry(), "log_stream": self._text}
        super().__init__(service, **own | options)

    def _processor(self) -> SpanProcessor:
        return SimpleSpanProcessor(self._exporter)

    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        self.force_flush()
        return self._exporter.get_finished_spans()

    def lines(self) -> list[dict[str, Any]]:
        """The log lines, parsed."""
        self.force_flush()
        return [json.loads(line) for line in self._text.getvalue().splitlines()]

    def value(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def eventually(condition: Callable[[], T], timeout_s: float = 10.0) -> T:
    """The condition's first true value; raises AssertionError when there is none within timeout_s seconds."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        time.sleep(0.01)
    return value
