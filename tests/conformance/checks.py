"""The checks: each asks whether telemetry keeps one promise in a case that has been run."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.case import Part
from tests.conformance.outcomes import GAUGES, LOGS, METRICS, SPANS, Outcome

NEAR_S = 1e-6
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
WARN = {"OUT_OF_RANGE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"}
GONE = {"CANCELLED", "DEADLINE_EXCEEDED"}
SIDES = ("server", "client")
Keeps = Callable[[Outcome, str], bool]


def always(outcome: Outcome, side: str) -> bool:
    return True


@dataclass(frozen=True)
class Check:
    """A promise, and whether the outcome of a case keeps it, for one side.

    needs are the signals without which there is nothing to ask; parts are what a case may leave out for a
    reason; when says in which outcomes it can be asked at all.
    """

    promise: str
    keeps: Keeps
    needs: frozenset[str]
    parts: Part
    when: Keeps

    def asked(self, outcome: Outcome, side: str) -> bool:
        """Whether it is asked of that side of the case."""
        parts = self.parts if side == "server" else self.parts & ~(Part.SERVER_STATUS | Part.EXCEPTION)
        return (
            self.needs <= outcome.signals[side] and outcome.case.asserts(parts) and self.when(outcome, side)
        )


NO_PART = Part(0)
CHECKS: list[Check] = []  # of one side
PAIR_CHECKS: list[Check] = []  # of both sides together


def check(
    promise: str, *needs: str, parts: Part = Part.ONE_CALL, when: Keeps = always, table: list[Check] = CHECKS
) -> Callable[[Keeps], Keeps]:
    """Put a question into a table."""

    def put(keeps: Keeps) -> Keeps:
        table.append(Check(promise, keeps, frozenset(needs), parts, when))
        return keeps

    return put


def asked(outcome: Outcome) -> dict[str, tuple[Check, str]]:
    """The checks that the case asserts, and the side of each, by the names of the promises."""
    per_side = {
        f"{side}: {check.promise}": (check, side)
        for side in SIDES
        for check in CHECKS
        if check.asked(outcome, side)
    }
    pair = [check for check in PAIR_CHECKS if all(check.asked(outcome, side) for side in SIDES)]
    return per_side | {check.promise: (check, "server") for check in pair}


def answers(outcome: Outcome) -> dict[str, bool]:
    """Whether each promise that the case asserts was kept."""
    return {promise: check.keeps(outcome, side) for promise, (check, side) in asked(outcome).items()}


def promises() -> list[str]:
    """All of them, as the answers name them."""
    per_side = [f"{side}: {check.promise}" for check in CHECKS for side in SIDES]
    return per_side + [check.promise for check in PAIR_CHECKS]


def statuses(outcome: Outcome, side: str) -> list[str]:
    """What a side must record: the status of each call."""
    return [outcome.status(side)] * outcome.calls(side)


def recorded_once(outcome: Outcome, side: str) -> bool:
    return outcome.calls(side) == 1 and len(outcome.side(side).spans) == 1


@check("one span for a call, ended with it", SPANS)
def _one_span(outcome: Outcome, side: str) -> bool:
    return len(outcome.side(side).spans) == outcome.calls(side)


@check("the span's status is the one on the wire", SPANS, parts=Part.ONE_CALL | Part.SERVER_STATUS)
def _span_status(outcome: Outcome, side: str) -> bool:
    return [span.status for span in outcome.side(side).spans] == statuses(outcome, side)


@check("the handled counter's code is the one on the wire", METRICS, parts=Part.ONE_CALL | Part.SERVER_STATUS)
def _handled_status(outcome: Outcome, side: str) -> bool:
    return outcome.side(side).handled_once == dict.fromkeys(statuses(outcome, side), 1)


@check("the log line's status is the one on the wire", LOGS, parts=Part.ONE_CALL | Part.SERVER_STATUS)
def _line_status(outcome: Outcome, side: str) -> bool:
    return [line["status"] for line in outcome.side(side).lines] == statuses(outcome, side)


@check("span, counter and log line agree", SPANS, METRICS)
def _agree(outcome: Outcome, side: str) -> bool:
    recorded = outcome.side(side)
    named = [{span.status for span in recorded.spans}, set(recorded.handled_once)]
    if LOGS in outcome.signals[side]:
        named.append({line["status"] for line in recorded.lines})
    return all(names == named[0] for names in named)


@check("calls started = calls handled", METRICS, parts=NO_PART)
def _started(outcome: Outcome, side: str) -> bool:
    recorded = outcome.side(side)
    return recorded.started == sum(recorded.handled.values()) == outcome.calls(side)


@check("in-flight gauge back at zero", GAUGES, parts=NO_PART)
def _in_flight(outcome: Outcome, side: str) -> bool:
    recorded = outcome.side(side)
    return recorded.in_flight == 0 or not recorded.started


@check(
    "messages received are counted as the application got them", METRICS, parts=Part.ONE_CALL | Part.MESSAGES
)
def _received(outcome: Outcome, side: str) -> bool:
    if side == "server":
        return outcome.server.received == outcome.seen.received
    return outcome.responses is not None and outcome.client.received == len(outcome.responses)


def arrived(outcome: Outcome, side: str) -> bool:
    """Whether the server has the call, and its handler is not left by the client: how much gRPC takes of what
    is given in vain is its own affair.
    """
    return outcome.calls("server") == 1 and (side == "client" or outcome.status("server") not in GONE)


@check(
    "messages sent are counted as the application gave them",
    METRICS,
    parts=Part.ONE_CALL | Part.MESSAGES,
    when=arrived,
)
def _sent(outcome: Outcome, side: str) -> bool:
    return outcome.side(side).sent == (_given(outcome) if side == "server" else _requests(outcome))


def _requests(outcome: Outcome) -> int:
    return 1 if outcome.case.kind.startswith("unary") else outcome.seen.received


def _given(outcome: Outcome) -> int:
    """The responses that gRPC took from the handler."""
    case = outcome.case
    if case.kind.endswith("stream"):
        # Where both saw the same end the client got all of them; a handler may have made more, ahead of gRPC.
        same = outcome.client_status == outcome.status("server")
        return len(outcome.responses or ()) if same else outcome.seen.sent
    returned = not case.uncaught and not any(event[0] == "left by" for event in outcome.seen.events)
    return int(returned and (case.flavour == "sync" or outcome.status("server") == "OK"))


@check("one duration: span, histogram, log line", SPANS, METRICS, when=recorded_once)
def _duration(outcome: Outcome, side: str) -> bool:
    recorded = outcome.side(side)
    lines = [line["duration_ms"] / 1e3 for line in recorded.lines]
    return all(
        other is not None and abs(other - recorded.spans[0].duration_s) < NEAR_S
        for other in (recorded.seconds, *lines)
    )


@check("exception events are those of the outcome table", SPANS, parts=Part.ONE_CALL | Part.EXCEPTION)
def _exceptions(outcome: Outcome, side: str) -> bool:
    expected = int(outcome.case.uncaught and side == "server")
    return all(span.exceptions == expected for span in outcome.side(side).spans)


@check(
    "the span's status is that of the outcome table, and never OK",
    SPANS,
    parts=Part.ONE_CALL | Part.SERVER_STATUS | Part.EXCEPTION,
)
def _error(outcome: Outcome, side: str) -> bool:
    status = outcome.status(side)
    error = status != "OK" if side == "client" else status in FAULTS or outcome.case.uncaught
    return [span.is_error for span in outcome.side(side).spans] == [error] * outcome.calls(side)


@check(
    "the log level is that of the outcome table",
    LOGS,
    parts=Part.ONE_CALL | Part.SERVER_STATUS | Part.EXCEPTION,
)
def _level(outcome: Outcome, side: str) -> bool:
    status = outcome.status(side)
    level = "warn" if status in WARN else "error" if status in FAULTS else "info"
    if side == "server" and status not in FAULTS and outcome.case.uncaught:
        level = "error"
    return [line["level"] for line in outcome.side(side).lines] == [level] * outcome.calls(side)


def on_both_sides(outcome: Outcome, side: str) -> bool:
    return outcome.calls("server") == outcome.calls("client") == 1


@check("the server's span is the client span's child", SPANS, when=on_both_sides, table=PAIR_CHECKS)
def _child(outcome: Outcome, _: str) -> bool:
    client = {(span.trace_id, span.span_id) for span in outcome.client.spans}
    return {(span.trace_id, span.parent_id) for span in outcome.server.spans} == client


def entered(outcome: Outcome, side: str) -> bool:
    return outcome.seen.entered.is_set()


def server_spans(outcome: Outcome) -> set[str]:
    return {f"{span.span_id:016x}" for span in outcome.server.spans}


@check(
    "the server's span is current in the handler, from start to end", SPANS, when=entered, table=PAIR_CHECKS
)
def _current(outcome: Outcome, _: str) -> bool:
    return set(outcome.seen.spans) == server_spans(outcome)


def closed(outcome: Outcome, side: str) -> bool:
    return outcome.seen.closing_span is not None


@check(
    "the server's span is current in a generator's clean-up, when gRPC closes it",
    SPANS,
    parts=Part.ONE_CALL | Part.CLEAN_UP,
    when=closed,
    table=PAIR_CHECKS,
)
def _closing(outcome: Outcome, _: str) -> bool:
    return {outcome.seen.closing_span} == server_spans(outcome)


@check("the client's span is not current in the caller's code", SPANS, parts=NO_PART, table=PAIR_CHECKS)
def _not_current(outcome: Outcome, _: str) -> bool:
    return not any(outcome.client_spans)
