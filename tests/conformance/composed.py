"""Runs a composition, with our interceptors and without, and compares what was recorded with what was seen."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from observability.testing import MemoryTelemetry, eventually
from tests.conformance.composition import Call, Handlers, Pair, attempts, handler_saw
from tests.conformance.other_clients import clients
from tests.conformance.other_servers import servers
from tests.conformance.others import CONTRIB_PARENTS, Other
from tests.conformance.world import Loop

STATUS = "rpc.status_code"
SETTLING_S = 5.0
Saw = dict[Call, dict[str, Any]]


@dataclass(frozen=True)
class Composition:
    """Ours on both sides, and somebody else's interceptor on one of them, in a position relative to ours."""

    side: str
    flavour: str
    other: Other
    position: str

    def __str__(self) -> str:
        return f"{self.side}, {self.flavour}, {self.other.name}, ours {self.position}"

    def around(self, side: str, ours: list[Any]) -> list[Any]:
        """The layers of a side, from the outermost."""
        if side != self.side or (not ours and self.stands_aside):
            return ours
        first = [] if self.position == "outermost" else self.other.layers()
        last = [] if self.position == "innermost" else self.other.layers()
        return [*first, *ours, *last]

    @property
    def stands_aside(self) -> bool:
        """Whether ours keep the other out."""
        return self.other.stands_aside and self.position == "outermost"

    @property
    def without(self) -> tuple[object, ...]:
        """What is the same without ours."""
        return self.side, self.flavour, self.other.name, self.position == "between", self.stands_aside


def compositions() -> list[Composition]:
    """All of them."""
    return [
        Composition(side, flavour, other, position)
        for side, others in (("server", servers), ("client", clients))
        for flavour in ("sync", "aio")
        for other in others(flavour)
        for position in other.positions
    ]


@dataclass
class Recorded:
    """What one side recorded of the calls, by their trace; the counters by method."""

    spans: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    handled: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    started: Counter[str] = field(default_factory=Counter)
    in_flight: float = 0


def recorded(telemetry: MemoryTelemetry, side: str) -> Recorded:
    """Read the telemetry of a side."""
    found = Recorded()
    for span in telemetry.spans():
        if span.context:
            found.spans[span.context.trace_id].append(span)
    for line in telemetry.lines():
        if "status" in line and "trace_id" in line:
            found.lines[int(line["trace_id"], 16)].append(line)
    for metric in telemetry.registry.collect():
        for sample in metric.samples:
            method = sample.labels.get("grpc_method", "")
            if sample.name == f"grpc_{side}_handled_total" and sample.value:
                found.handled[method][sample.labels["grpc_code"]] += int(sample.value)
            elif sample.name == f"grpc_{side}_started_total" and sample.value:
                found.started[method] += int(sample.value)
            elif sample.name == f"grpc_{side}_in_flight":
                found.in_flight += sample.value
    return found


@dataclass(frozen=True)
class Expected:
    """The statuses of a call's attempts that each side is to record, and by which methods it counts them."""

    call: Call
    trace_id: int
    server: tuple[str, ...]
    client: tuple[str, ...]
    server_method: str
    spans_may_stand_back: tuple[str, ...] = ()

    def statuses(self, side: str) -> Counter[str]:
        """Those of a side."""
        return Counter(self.server if side == "server" else self.client)

    def method(self, side: str) -> str:
        """The method that the side counts it by."""
        return self.server_method if side == "server" else self.call.method


def wrong(
    telemetries: dict[str, MemoryTelemetry], expected: Sequence[Expected], undecided: Iterable[str] = ()
) -> list[str]:
    """What is not as expected once both sides have settled; nothing, as soon as nothing is.

    undecided are the methods that nothing is expected of.
    """
    found: list[list[str]] = []

    def right() -> bool:
        sides = {side: recorded(telemetry, side) for side, telemetry in telemetries.items()}
        found.append([*_wrong(sides, expected, {*undecided})])
        return not found[-1]

    with suppress(AssertionError):
        eventually(right, SETTLING_S)
    return found[-1]


def _wrong(sides: dict[str, Recorded], expected: Sequence[Expected], undecided: set[str]) -> Iterable[str]:
    for side, record in sides.items():
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for each in expected:
            counted[each.method(side)] += each.statuses(side)
            yield from _wrong_call(side, record, each)
        for method in {*counted, *record.handled, *record.started} - undecided:
            if record.handled[method] != counted[method]:
                yield f"{side} counter of {method}: {record.handled[method]}, not {counted[method]}"
            if record.started[method] != counted[method].total():
                yield f"{side} started {method}: {record.started[method]}, not {counted[method].total()}"
        if record.in_flight:
            yield f"{side} in flight: {record.in_flight}"
    for each in expected:
        yield from _wrong_parents(sides, each)


def _wrong_call(side: str, record: Recorded, each: Expected) -> Iterable[str]:
    statuses = each.statuses(side)
    spans = Counter(str((span.attributes or {}).get(STATUS)) for span in record.spans[each.trace_id])
    lines = Counter(line["status"] for line in record.lines[each.trace_id])
    if spans != statuses and not (side in each.spans_may_stand_back and spans <= statuses):
        yield f"{side} spans of {each.call.method}: {spans}, not {statuses}"
    if lines != statuses:
        yield f"{side} lines of {each.call.method}: {lines}, not {statuses}"


def _wrong_parents(sides: dict[str, Recorded], each: Expected) -> Iterable[str]:
    """The client's spans are the caller's children; the server's are the client's, one for each attempt."""
    client, server = (sides[side].spans[each.trace_id] for side in ("client", "server"))
    caller = each.trace_id & (2**64 - 1)
    if any(_parent(span) != caller for span in client):
        yield f"client spans of {each.call.method} are not the caller's children"
    parents = Counter(_parent(span) for span in server)
    attempts_made = {span.context.span_id for span in client} or {caller}
    if not parents.keys() <= attempts_made:
        yield f"server spans of {each.call.method} are not the client's children"
    if len(client) > 1 and max(parents.values(), default=1) > 1:
        yield f"attempts of {each.call.method} share one parent on the server"


def _parent(span: Any) -> int:
    return CONTRIB_PARENTS.ours(span.parent.span_id) if span.parent else 0


@dataclass(frozen=True)
class Result:
    """What was seen, and what was not as expected in what was recorded."""

    saw: Saw
    wrong: list[str]


def run(composition: Composition, loop: Loop, ours: bool) -> Result:
    """Make all its calls, at once."""
    calls = composition.other.calls()
    telemetries = {side: MemoryTelemetry(side) for side in ("server", "client")} if ours else {}
    handlers = Handlers(calls, composition.flavour)
    aio = composition.flavour == "aio"

    def server() -> list[Any]:
        if not ours:
            return []
        made = telemetries["server"]
        return made.aio_server_interceptors() if aio else made.server_interceptors()

    def client(target: str) -> list[Any]:
        if not ours:
            return composition.around("client", [])
        made = telemetries["client"]
        own = made.aio_client_interceptors(target=target) if aio else made.client_interceptors(target=target)
        return composition.around("client", list(own))

    traces = {call: 1 + number << 64 | 1 + number for number, call in enumerate(calls)}

    def observe(call: Call) -> dict[str, Any]:
        seen = handlers.seen[call]
        client_saw = pair.make(call, seen, traces[call], composition.other.stub)
        return {"client": client_saw, "handler": handler_saw(call, seen)}

    with Pair(composition.flavour, handlers, loop, composition.around("server", server()), client) as pair:
        with ThreadPoolExecutor(len(calls)) as pool:
            saw = dict(zip(calls, pool.map(observe, calls), strict=True))
        undecided = [call for call in calls if composition.other.undecided(call, composition.position)]
        expected = [
            _expected(composition, call, traces[call], saw[call]["client"]["status"], handlers)
            for call in calls
            if call not in undecided
        ]
        found = wrong(telemetries, expected, [call.method for call in undecided]) if ours else []
        return Result(saw, found)


def _expected(
    composition: Composition, call: Call, trace_id: int, status: str, handlers: Handlers
) -> Expected:
    other, position = composition.other, composition.position
    server: tuple[str, ...] = (status,)
    client: tuple[str, ...] = (status,)
    if call.end == "fails twice":
        server = ("UNAVAILABLE", "UNAVAILABLE", "OK")[: attempts(handlers.seen[call])]
        client = server if position == "innermost" else (status,)
    refused = other.refuses and position != "outermost"
    return Expected(
        call,
        trace_id,
        () if refused else server,
        client,
        other.method or call.method,
        (composition.side,) if other.spans else (),
    )
