"""The promises, each a question to a case that has been run: kept, broken, or not asked here (None)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.cases import Case, Seen
from tests.conformance.told import Told

NEAR_S = 1e-6
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
WARN = {"OUT_OF_RANGE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"}
GONE = {"CANCELLED", "DEADLINE_EXCEEDED"}


SPANS, METRICS, GAUGES, LOGS = "spans", "metrics", "gauges", "logs"


@dataclass(frozen=True)
class Outcome:
    """A case that has been run, and what was told of it."""

    case: Case
    client_saw: Any
    seen: Seen
    server: Told
    client: Told
    client_spans: list[bool]  # whether a span was current in the consumer's code
    signals: dict[str, frozenset[str]]  # by side: which of SPANS, METRICS and LOGS there are

    @property
    def status(self) -> str | None:
        """The status that the client saw; None where it did not look."""
        return status_in(self.client_saw)

    @property
    def responses(self) -> list[Any] | None:
        """The responses that the client got; None where it did not tell."""
        got = self.client_saw.get("responses") if isinstance(self.client_saw, dict) else None
        return got if isinstance(got, list) else None

    @property
    def server_status(self) -> str | None:
        """The status that the server's telemetry is to tell; None where timing decides."""
        own = self.case.server_status
        return None if own in {"any", "none"} else own or self.status

    def is_fault(self, status: str) -> bool | None:
        """Whether the server is at fault: by the status, or an exception; None where no table decides it."""
        return True if status in FAULTS else self.case.uncaught

    def side(self, name: str) -> Told:
        """What one side told."""
        return self.server if name == "server" else self.client

    def expected(self, name: str) -> str | None:
        """The status that one side is to tell."""
        return self.server_status if name == "server" else self.status


def status_in(saw: Any) -> str | None:
    """The status in what a client saw."""
    if not isinstance(saw, dict):
        return None
    if "code" in saw:
        return str(saw["code"])
    for key in ("raised", "next", "failed", "result"):
        if isinstance(saw.get(key), dict):
            return status_in(saw[key])
    return "OK" if "response" in saw else None


Ask = Callable[[Outcome, str], bool | None]
PER_SIDE: dict[str, tuple[Ask, frozenset[str]]] = {}
SIDES = ("server", "client")


def promise(text: str, *needs: str) -> Callable[[Ask], Ask]:
    """Put a question into the table; it is asked for both sides, "server" and "client".

    needs are the signals without which it makes no sense.
    """

    def put(ask: Ask) -> Ask:
        PER_SIDE[text] = ask, frozenset(needs)
        return ask

    return put


def ask(outcome: Outcome) -> dict[str, bool]:
    """The answers of a case, by promise."""
    if outcome.case.calls == 0:
        return {}
    answers = {
        f"{side}: {text}": question(outcome, side)
        for side in SIDES
        for text, (question, needs) in PER_SIDE.items()
        if needs <= outcome.signals[side] and (side == "client" or _reached(outcome))
    }
    if all(SPANS in outcome.signals[side] for side in SIDES):
        answers |= {text: question(outcome) for text, question in WHOLE.items()}
    return {text: answer for text, answer in answers.items() if answer is not None}


def _reached(outcome: Outcome) -> bool:
    """Whether the server has anything to tell."""
    if outcome.case.server_status == "none":
        return False
    return bool(outcome.server.started or outcome.seen.entered.is_set() or not outcome.case.racy)


@promise("one span for a call, ended with it", SPANS)
def _one_span(outcome: Outcome, side: str) -> bool | None:
    return len(outcome.side(side).spans) == 1 if outcome.case.calls == 1 else None


@promise("the span's status is the one on the wire", SPANS)
def _span_status(outcome: Outcome, side: str) -> bool | None:
    if outcome.case.calls != 1 or outcome.expected(side) is None:
        return None
    return [span.status for span in outcome.side(side).spans] == [outcome.expected(side)]


@promise("the handled counter's code is the one on the wire", METRICS)
def _handled_status(outcome: Outcome, side: str) -> bool | None:
    if outcome.case.calls != 1 or outcome.expected(side) is None:
        return None
    return outcome.side(side).handled_once == {outcome.expected(side): 1}


@promise("the log line's status is the one on the wire", LOGS)
def _line_status(outcome: Outcome, side: str) -> bool | None:
    if outcome.case.calls != 1 or outcome.expected(side) is None:
        return None
    return [line["status"] for line in outcome.side(side).lines] == [outcome.expected(side)]


@promise("span, counter and log line agree", SPANS, METRICS)
def _agree(outcome: Outcome, side: str) -> bool | None:
    if outcome.case.calls != 1:
        return None
    told = outcome.side(side)
    named = [{span.status for span in told.spans}, set(told.handled_once)]
    if LOGS in outcome.signals[side]:
        named.append({line["status"] for line in told.lines})
    return all(names == named[0] for names in named)


@promise("calls started = calls handled", METRICS)
def _started(outcome: Outcome, side: str) -> bool | None:
    told = outcome.side(side)
    return told.started == sum(told.handled.values()) and (outcome.case.calls != 1 or told.started == 1)


@promise("in-flight gauge back at zero", GAUGES)
def _in_flight(outcome: Outcome, side: str) -> bool | None:
    return outcome.side(side).in_flight == 0


@promise("messages received are counted as the application got them", METRICS)
def _received(outcome: Outcome, side: str) -> bool | None:
    if outcome.case.loose or outcome.case.calls != 1:
        return None
    if side == "server":
        return outcome.server.received == outcome.seen.received
    got = outcome.responses
    return None if got is None else outcome.client.received == len(got)


@promise("messages sent are counted as the application gave them", METRICS)
def _sent(outcome: Outcome, side: str) -> bool | None:
    case, status = outcome.case, outcome.status
    if case.loose or case.calls != 1 or status is None or status in GONE:
        return None
    if side == "client":
        return outcome.client.sent == outcome.seen.received if status == "OK" else None
    if case.kind.endswith("stream") and case.flavour == "plain":  # its thread runs ahead of what is sent
        return None if outcome.responses is None else outcome.server.sent == len(outcome.responses)
    if case.kind.endswith("stream"):
        return outcome.server.sent == outcome.seen.sent
    return outcome.server.sent == 1 if status == "OK" and not case.uncaught else None


@promise("one duration: span, histogram, log line", SPANS, METRICS)
def _duration(outcome: Outcome, side: str) -> bool | None:
    told = outcome.side(side)
    if outcome.case.calls != 1 or len(told.spans) != 1:
        return None
    lines = [line["duration_ms"] / 1e3 for line in told.lines]
    return all(
        other is not None and abs(other - told.spans[0].duration_s) < NEAR_S
        for other in (told.seconds, *lines)
    )


@promise("exception events are those of the outcome table", SPANS)
def _exceptions(outcome: Outcome, side: str) -> bool | None:
    expected = outcome.case.uncaught if side == "server" else False
    if expected is None or not outcome.side(side).spans:
        return None
    return {span.exceptions for span in outcome.side(side).spans} == {int(expected)}


@promise("the span's status is that of the outcome table, and never OK", SPANS)
def _error(outcome: Outcome, side: str) -> bool | None:
    status = outcome.expected(side)
    if outcome.case.calls != 1 or status is None:
        return None
    error = outcome.is_fault(status) if side == "server" else status != "OK"
    return None if error is None else [span.is_error for span in outcome.side(side).spans] == [error]


@promise("the log level is that of the outcome table", LOGS)
def _level(outcome: Outcome, side: str) -> bool | None:
    status = outcome.expected(side)
    if outcome.case.calls != 1 or status is None:
        return None
    level = "warn" if status in WARN else "error" if status in FAULTS else "info"
    if side == "server" and status not in FAULTS:
        if outcome.case.uncaught is None:
            return None
        level = "error" if outcome.case.uncaught else level
    return [line["level"] for line in outcome.side(side).lines] == [level]


WHOLE: dict[str, Callable[[Outcome], bool | None]] = {}


def _whole(text: str) -> Callable[[Any], Any]:
    def put(question: Any) -> Any:
        WHOLE[text] = question
        return question

    return put


@_whole("the server's span is the client span's child")
def _child(outcome: Outcome) -> bool | None:
    if outcome.case.calls != 1 or not outcome.seen.entered.is_set():
        return None
    client = {(span.trace_id, span.span_id) for span in outcome.client.spans}
    return {(span.trace_id, span.parent_id) for span in outcome.server.spans} == client


@_whole("the server's span is current in the handler, from start to end")
def _current(outcome: Outcome) -> bool | None:
    if outcome.case.calls != 1 or not outcome.seen.entered.is_set():
        return None
    return set(outcome.seen.spans) == {f"{span.span_id:016x}" for span in outcome.server.spans}


@_whole("the server's span is current in a generator's clean-up, when gRPC closes it")
def _closing(outcome: Outcome) -> bool | None:
    if outcome.case.calls != 1 or outcome.seen.closing_span is None or not outcome.case.closes:
        return None
    return {outcome.seen.closing_span} == {f"{span.span_id:016x}" for span in outcome.server.spans}


@_whole("the client's span is not current in the caller's code")
def _not_current(outcome: Outcome) -> bool | None:
    return not any(outcome.client_spans) if outcome.client_spans else None
