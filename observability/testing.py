"""For tests: telemetry that stays in memory, and a way to wait for what happens on another thread.

With pytest, the fixture `telemetry` of observability.pytest_plugin is a MemoryTelemetry.
"""

import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from observability.telemetry import Telemetry

FLUSH_S = 5.0

T = TypeVar("T")


class MemoryTelemetry(Telemetry):
    """Telemetry that keeps its spans, metrics and log lines in memory; it takes the arguments of Telemetry.

    Each method flushes first, so its answer includes every call that has ended. `spans`, `lines` and `value`
    return everything; the others find one match, or raise AssertionError that shows what there is.
    """

    def __init__(self, service: str = "test", **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._text = io.StringIO()
        own: dict[str, Any] = {"registry": CollectorRegistry(), "log_stream": self._text}
        super().__init__(service, **own | options)

    def _processor(self) -> SpanProcessor:
        return SimpleSpanProcessor(self._exporter)

    def _line_queue(self) -> None:
        """Lines stay here, whatever OTEL_LOGS_EXPORTER says."""

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
        return sum(sample.value for sample in self._samples(name) if labels.items() <= sample.labels.items())

    def span(self, name: str, *, kind: str = "", status: str = "") -> ReadableSpan:
        """The one span of that name, such as "Greeter/Hello" or "GET /books".

        kind is "server", "client" or "internal"; status is gRPC's name, such as "NOT_FOUND".
        """
        spans = self.spans()
        found = [
            span
            for span in spans
            if span.name == name and kind in {"", _kind(span)} and status in {"", _status(span)}
        ]
        wanted = " ".join(word for word in ("span", name, kind, status) if word)
        return _one(found, wanted, (f"{span.name} {_kind(span)} {_status(span)}" for span in spans))

    def line(self, **fields: Any) -> dict[str, Any]:
        """The one log line that has these fields, such as event="grpc.server.call"."""
        lines = self.lines()
        found = [line for line in lines if fields.items() <= line.items()]
        return _one(found, f"line with {fields}", map(json.dumps, lines))

    def metric(self, name: str, **labels: str) -> float:
        """The value of the one series that has these labels, such as grpc_code="OK"."""
        samples = self._samples(name)
        found = [float(sample.value) for sample in samples if labels.items() <= sample.labels.items()]
        return _one(
            found, f"series {name}{labels}", (f"{sample.labels} {sample.value}" for sample in samples)
        )

    def _samples(self, name: str) -> list[Sample]:
        self.journal.flush(FLUSH_S)  # a read of the registry waits for a second only
        samples = (sample for metric in self.registry.collect() for sample in metric.samples)
        return [sample for sample in samples if sample.name == name]

    def assert_one_trace(self) -> str:
        """The id, 32 hexadecimal digits, of the one trace that all spans and lines belong to."""
        spans = {f"{span.context.trace_id:032x}" for span in self.spans() if span.context}
        lines = {line["trace_id"] for line in self.lines() if "trace_id" in line}
        return _one([*(spans | lines)], "trace", [f"spans: {sorted(spans)}", f"lines: {sorted(lines)}"])


def _kind(span: ReadableSpan) -> str:
    return span.kind.name.lower()


def _status(span: ReadableSpan) -> str:
    return str((span.attributes or {}).get("rpc.status_code", ""))


def _one(found: Sequence[T], wanted: str, there: Iterable[str]) -> T:
    if len(found) != 1:
        raise AssertionError(
            "\n  ".join([f"there must be one {wanted}, got {len(found)}; there are", *there])
        )
    return found[0]


def eventually(condition: Callable[[], T], timeout_s: float = 10.0) -> T:
    """The condition's first true value; raises AssertionError when there is none within timeout_s seconds."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        time.sleep(0.01)
    return value
