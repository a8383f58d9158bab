"""What telemetry told of each method's calls, as the same plain facts for every stack."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from prometheus_client import CollectorRegistry

STATUS = "rpc.status_code"


@dataclass(frozen=True)
class Span:
    """One span, ended."""

    status: str
    is_error: bool | None  # None: it claims OK
    duration_s: float
    exceptions: int
    span_id: int
    parent_id: int
    trace_id: int


@dataclass
class Told:
    """What one side's telemetry told of one method."""

    spans: list[Span] = field(default_factory=list)
    handled: dict[str, float] = field(default_factory=dict)
    started: float = 0
    in_flight: float | None = None
    received: float = 0
    sent: float = 0
    seconds: float | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def handled_once(self) -> dict[str, float]:
        """The statuses that were counted."""
        return {status: count for status, count in self.handled.items() if count}


Side = dict[str, Told]  # by "Service/Method"


def span_of(span: ReadableSpan, status: str) -> Span:
    """The facts of a span; status is how its attributes name it."""
    return Span(
        status=status,
        is_error={"OK": None, "ERROR": True, "UNSET": False}[span.status.status_code.name],
        duration_s=((span.end_time or 0) - (span.start_time or 0)) / 1e9,
        exceptions=sum(event.name == "exception" for event in span.events),
        span_id=span.context.span_id if span.context else 0,
        parent_id=span.parent.span_id if span.parent else 0,
        trace_id=span.context.trace_id if span.context else 0,
    )


def told_by_ours(telemetries: Iterable[Any], side: str) -> Side:
    """Read this package's telemetry of one side."""
    told: Side = defaultdict(Told)
    for telemetry in telemetries:
        for span in telemetry.spans():
            attributes = span.attributes or {}
            told[str(attributes["rpc.method"])].spans.append(span_of(span, str(attributes.get(STATUS, ""))))
        for line in telemetry.lines():
            if line["event"] == f"grpc.{side}.call":
                told[line["rpc.method"]].lines.append(line)
        read_metrics(told, telemetry.registry, side, "grpc_code")
    return told


def read_metrics(told: Side, registry: CollectorRegistry, side: str, code_label: str) -> None:
    """Read the counters of one side, under the names of go-grpc-prometheus."""
    for metric in registry.collect():
        for sample in metric.samples:
            if "grpc_method" in sample.labels and sample.name.startswith(f"grpc_{side}_"):
                labels = sample.labels
                method = told[f"{labels['grpc_service']}/{labels['grpc_method']}"]
                _add(
                    method,
                    sample.name.removeprefix(f"grpc_{side}_"),
                    labels.get(code_label, ""),
                    sample.value,
                )


def _add(method: Told, name: str, code: str, value: float) -> None:
    if name == "handled_total":
        method.handled[code] = method.handled.get(code, 0) + value
    elif name == "started_total":
        method.started += value
    elif name == "in_flight":
        method.in_flight = (method.in_flight or 0) + value
    elif name == "msg_received_total":
        method.received += value
    elif name == "msg_sent_total":
        method.sent += value
    elif name == "handling_seconds_sum":
        method.seconds = (method.seconds or 0) + value
