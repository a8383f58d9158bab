"""The outcome of a case: what client and handler saw, and what telemetry recorded, as the same plain facts for every stack."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan
from prometheus_client import CollectorRegistry

from observability.call import OTHER
from tests.conformance.case import Case, Part
from tests.conformance.observations import Seen

if TYPE_CHECKING:
    from tests.conformance.runner import Run

STATUS = "rpc.status_code"
SPANS, METRICS, GAUGES, LOGS = "spans", "metrics", "gauges", "logs"
SETTLING_S = 5.0
FIELDS = {
    "started_total": "started",
    "in_flight": "in_flight",
    "msg_received_total": "received",
    "msg_sent_total": "sent",
    "handling_seconds_sum": "seconds",
}


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
class Recorded:
    """What one side's telemetry recorded of one method."""

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


Side = dict[str, Recorded]  # by "Service/Method"


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


def recorded_by_ours(telemetries: Iterable[Any], side: str) -> Side:
    """Read this package's telemetry of one side."""
    recorded: Side = defaultdict(Recorded)
    for telemetry in telemetries:
        for span in telemetry.spans():
            attributes = span.attributes or {}
            recorded[str(attributes["rpc.method"])].spans.append(
                span_of(span, str(attributes.get(STATUS, "")))
            )
        for line in telemetry.lines():
            if line["event"] == f"grpc.{side}.call":
                recorded[line["rpc.method"]].lines.append(line)
        read_metrics(recorded, telemetry.registry, side, "grpc_code")
    return recorded


def read_metrics(recorded: Side, registry: CollectorRegistry, side: str, code_label: str) -> None:
    """Read the counters of one side, under the names of go-grpc-prometheus."""
    for metric in registry.collect():
        for sample in metric.samples:
            if "grpc_method" in sample.labels and sample.name.startswith(f"grpc_{side}_"):
                labels = sample.labels
                service, name = labels["grpc_service"], labels["grpc_method"]
                method = recorded[OTHER if OTHER in {service, name} else f"{service}/{name}"]
                _add(
                    method,
                    sample.name.removeprefix(f"grpc_{side}_"),
                    labels.get(code_label, ""),
                    sample.value,
                )


def _add(method: Recorded, name: str, code: str, value: float) -> None:
    if name == "handled_total":
        method.handled[code] = method.handled.get(code, 0) + value
    elif field_of := FIELDS.get(name):
        setattr(method, field_of, (getattr(method, field_of) or 0) + value)


@dataclass(frozen=True)
class Outcome:
    """A case that has been run, and what was recorded of it."""

    case: Case
    client_saw: Any
    seen: Seen
    server: Recorded
    client: Recorded
    client_spans: list[bool]  # whether a span was current in the caller's code
    signals: dict[str, frozenset[str]]  # by side: which there are

    @property
    def client_status(self) -> str:
        """The status that the client saw, or must have had where it did not look."""
        return status_in(self.client_saw) or self.case.status or "the client did not look"

    @property
    def responses(self) -> list[Any] | None:
        """The responses that the client got; None where it raised or hung instead of saying so."""
        return self.client_saw.get("responses") if isinstance(self.client_saw, dict) else None

    def side(self, name: str) -> Recorded:
        """What one side recorded."""
        return self.server if name == "server" else self.client

    def status(self, side: str) -> str:
        """The status that one side must record."""
        return self.case.server_status or self.client_status if side == "server" else self.client_status

    def calls(self, side: str) -> int:
        """How many calls one side must record."""
        if side == "server" and not self.case.asserts(Part.SERVER_STATUS):
            return int(bool(self.server.started or self.seen.entered.is_set()))
        return self.case.calls[side == "server"]


def was_late(outcome: Outcome) -> bool:
    """Whether a deadline passed, for the client or in what either side recorded, or the call did not arrive soon."""
    statuses = {outcome.client_status, *outcome.server.handled_once, *outcome.client.handled_once}
    return "DEADLINE_EXCEEDED" in statuses or (outcome.case.entered and not outcome.seen.entered.is_set())


def status_in(saw: Any) -> str | None:
    """The status in what a client saw; None where it did not look."""
    if not isinstance(saw, dict):
        return None
    if "code" in saw:
        return str(saw["code"])
    return next((status for key in ("raised", "next") if (status := status_in(saw.get(key)))), None)


def outcomes(run: "Run", stack: Any) -> dict[str, Outcome]:
    """The outcome of each case, once all have been run and telemetry has had time to record them."""
    run.wait()
    server, client = _settled(stack, {case.method[1:] for case in run.cases})
    return {
        case.name: Outcome(
            case,
            run.observation(case)["client"],
            run.methods.seen[case.name],
            server.get(case.method[1:], Recorded()),
            client.get(case.method[1:], Recorded()),
            run.client_spans.get(case.name, []),
            {"server": stack.signals(case.flavour), "client": stack.signals(case.client)},
        )
        for case in run.cases
    }


def _settled(stack: Any, methods: set[str]) -> tuple[Side, Side]:
    """Both sides' facts, once all calls that were started have been handled, or SETTLING_S are over."""
    end = time.monotonic() + SETTLING_S
    while True:
        sides = stack.recorded("server"), stack.recorded("client")
        if all(_is_over(side, methods) for side in sides) or time.monotonic() > end:
            return sides
        time.sleep(0.1)


def _is_over(side: Side, methods: set[str]) -> bool:
    return all(
        recorded.started == sum(recorded.handled.values()) and not recorded.in_flight
        for method, recorded in side.items()
        if method in methods
    )
