"""Why a trace was slow or failed: from its spans and what is usual alone, so the same words each time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from observability.signals.tracing import SERVER_FAULTS
from tools.traces.lines import Line, words
from tools.traces.trace import Row, Span, shape
from tools.traces.usual import Usual

SLOW_MS = 300.0  # the objective of a page
ENOUGH = 20  # calls, to say what is usual
NOTHING = (
    "Nothing is wrong with this trace. What no single call shows (memory, restarts, load) is in the metrics."
)
MEANINGS = {
    "CANCELLED": "the client gave the call up",
    "UNKNOWN": "the handler raised an exception that nobody caught",
    "INVALID_ARGUMENT": "the request is wrong, whatever the state of the service",
    "DEADLINE_EXCEEDED": "the answer did not come before the client's deadline",
    "NOT_FOUND": "what was asked for does not exist",
    "ALREADY_EXISTS": "what the call would create already exists",
    "PERMISSION_DENIED": "the caller is not allowed to do this",
    "RESOURCE_EXHAUSTED": "a quota or a pool is used up",
    "FAILED_PRECONDITION": "the service is not in a state in which this can be done",
    "ABORTED": "another call got in between: the caller may try all of it again",
    "OUT_OF_RANGE": "the request goes beyond the end of what there is",
    "UNIMPLEMENTED": "the server does not have this method",
    "INTERNAL": "something that must hold in the service does not",
    "UNAVAILABLE": "the service could not be reached, or is stopping",
    "DATA_LOSS": "data is lost for good",
    "UNAUTHENTICATED": "the caller did not authenticate",
    "404": "the page, or what it is about, does not exist",
    "500": "the page's handler raised an exception that nobody caught",
    "503": "the service has no room, is stopping, or has no database",
}
UNANSWERED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


class Step(NamedTuple):
    """A span on the critical path, and how much of the trace's time is its own."""

    span: Span
    own_ms: float
    usual: Usual | None


@dataclass(frozen=True)
class Why:
    """sentence names the culprit, where there is one; alert is the one that fits, and its runbook's name."""

    sentence: str
    path: Sequence[Step]
    facts: Sequence[str]
    alert: str = ""
    culprit: Span | None = None

    def __str__(self) -> str:
        lines = [self.sentence, "", "Critical path:"]
        for span, own_ms, usual in self.path:
            often = f"; usually {usual.p50_ms:.1f} ms, 95 % within {usual.p95_ms:.1f} ms" if usual else ""
            lines.append(
                f"  {span.service} {span.name}: {span.milliseconds:.1f} ms, own time {own_ms:.1f} ms{often}"
            )
        lines += ["", *self.facts] if self.facts else []
        if self.alert:
            lines += ["", f"If it happens often: alert {self.alert}, docs/runbooks/{self.alert}.md"]
        return "\n".join(lines)


def why(spans: Sequence[Span], usual: Callable[[Span], Usual | None]) -> Why:
    """What is wrong with the trace, if anything; usual says what is usual for a span, where known."""
    rows = shape(spans)
    path = [Step(span, own_ms, usual(span)) for span, own_ms in critical_path(spans)]
    bad = [row for row in rows if _is_bad(row.span)]
    faults = [row for row in bad if _is_fault(row.span)]
    deepest = max(faults or bad, key=lambda row: row.depth).span if bad else None
    facts = list(_facts(rows, deepest))
    if deepest and faults:
        sentence, alert = _failure(deepest, spans)
        return Why(sentence, path, facts, alert, deepest)
    if _is_slow(path):
        slowest = max(path, key=lambda step: step.own_ms)
        return Why(_slowness(slowest, path), path, facts, "PagesLatencyBurn", slowest.span)
    if deepest:
        answered = f"{deepest.service} answered {deepest.name} with {deepest.status}"
        sentence = f"{answered}: mostly that is the caller's fault."
        alert = "NotFoundSurge" if deepest.status == "NOT_FOUND" else ""
        return Why(sentence, path, facts, alert, deepest)
    return Why(NOTHING, path, facts)


def report(found: Why, lines: Sequence[Line]) -> str:
    """All of it as text, with the trace's log lines."""
    said = ["", "Log lines:", *(f"  {words(line)}" for line in lines)] if lines else []
    return "\n".join([str(found), *said, ""])


def critical_path(spans: Sequence[Span]) -> list[tuple[Span, float]]:
    """The spans that the end waited for, by their start, each with the milliseconds that were its own."""
    root = shape(spans)[0].span
    return sorted(_waited(root, root.end_ns, spans, set()), key=lambda found: found[0].start_ns)


def _waited(span: Span, until_ns: int, spans: Sequence[Span], seen: set[str]) -> Iterator[tuple[Span, float]]:
    """Backwards from the end: the child that ended last was waited for, before it the one that ended then."""
    seen.add(span.span_id)
    own_ns, until_ns = 0, min(until_ns, span.end_ns)
    children = [child for child in spans if child.parent_id == span.span_id and child.span_id not in seen]
    for child in sorted(children, key=lambda child: child.end_ns, reverse=True):
        if child.start_ns < until_ns:
            own_ns += max(0, until_ns - child.end_ns)
            yield from _waited(child, until_ns, spans, seen)
            until_ns = max(child.start_ns, span.start_ns)
    yield span, (own_ns + max(0, until_ns - span.start_ns)) / 1e6


def _is_bad(span: Span) -> bool:
    if span.status.isdecimal():
        return span.failed or span.status >= "400"
    return span.failed or span.status not in {"", "OK"}


def _is_fault(span: Span) -> bool:
    return span.status in SERVER_FAULTS or span.status == "ERROR" or (span.status.isdecimal() and span.failed)


def _is_slow(path: Sequence[Step]) -> bool:
    root, _, usual = path[0]
    took_ms = (root.end_ns - root.start_ns) / 1e6
    return took_ms > SLOW_MS or bool(usual and usual.calls >= ENOUGH and took_ms > 2 * usual.p95_ms)


def _failure(culprit: Span, spans: Sequence[Span]) -> tuple[str, str]:
    """The sentence, and the alert that fits."""
    ended = f"{culprit.status} ({culprit.message})" if culprit.message else culprit.status
    if culprit.kind == "client":
        return _unanswered(culprit, ended)
    who = f"{culprit.service} failed in {culprit.name}"
    if culprit.parent_id in {span.span_id for span in spans}:
        return f"{who}: {ended}.", "RecommendationsDegraded"
    return f"{who}, and no call below it did: {ended}.", "PagesAvailabilityBurn"


def _unanswered(call: Span, ended: str) -> tuple[str, str]:
    """The same of a call that has no span of the other side; of a database there is never one."""
    said = call.attributes
    there = f"{said.get('server.address', '')}:{said.get('server.port', '')}".strip(":")
    there = there or said.get("db.system.name", "the other side")
    what = "no answer" if call.status in UNANSWERED else "an error"
    sentence = f"{call.service} got {what} from {there} to {call.name}: {ended}."
    if "db.system.name" in said:
        return sentence, "DatabaseDown"
    return sentence, "ServiceDown" if call.status == "UNAVAILABLE" else "RecommendationsDegraded"


def _slowness(slowest: Step, path: Sequence[Step]) -> str:
    total_ms = (path[0].span.end_ns - path[0].span.start_ns) / 1e6
    span, own_ms = slowest.span, slowest.own_ms
    if span.kind == "client" and any(step.span.parent_id == span.span_id for step in path):
        where = f"on the way from {span.service} and back, in {span.name}"
    else:
        where = f"in {span.service}, in {span.name} itself"
    return f"{own_ms:.0f} of {total_ms:.0f} ms were spent {where}."


def _facts(rows: Sequence[Row], culprit: Span | None) -> Iterator[str]:
    if culprit and culprit.status in MEANINGS:
        yield f"{culprit.status}: {MEANINGS[culprit.status]}."
    if culprit and culprit.kind == "client" and culprit.status in UNANSWERED:
        yield "See the other side's log: no trace says whether it crashed, stopped or is out of reach."
    for row in rows:
        span = row.span
        if (left := span.attributes.get("rpc.grpc.deadline_left_ms")) and span.kind == "client":
            deadline = span.attributes.get("rpc.grpc.deadline_ms", "?")
            yield f"{span.name} had a deadline of {deadline} ms; {left} ms were left."
        if earlier := span.attributes.get("rpc.grpc.previous_attempts"):
            yield f"{span.service} was tried before with {span.name}: {earlier} earlier attempts."
    tries: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.span.kind == "client":
            call = row.span.parent_id, row.span.name
            tries[call] = tries.get(call, 0) + 1
    for (_, name), count in tries.items():
        if count > 1:
            yield f"{name} was called {count} times."
