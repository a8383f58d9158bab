"""Runs a composition, with our interceptors and without, and compares what was recorded with what was seen."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from observability.testing import MemoryTelemetry, eventually
from tests.conformance.composition_calls import Call, Handlers, Pair, attempts, handler_saw
from tests.conformance.observations import SOON_S
from tests.conformance.outcomes import Recorded, Side, recorded_by_ours
from tests.conformance.servers import Loop
from tests.conformance.third_party import CONTRIB_PARENTS, Other
from tests.conformance.third_party_clients import clients
from tests.conformance.third_party_servers import servers

SETTLING_S = 5.0
SIDES = ("server", "client")
# Compositions start one at a time, and wait together: a deadline must not pass before its call arrives.
STARTING = threading.Lock()
Saw = dict[Call, dict[str, Any]]


@dataclass(frozen=True)
class Composition:
    """Ours on both sides, and another package's interceptor on one of them, in a position relative to ours."""

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


@dataclass(frozen=True)
class Expected:
    """The statuses of a call's attempts that each side must record, and by which methods it counts them."""

    call: Call
    trace_id: int
    statuses: dict[str, tuple[str, ...]]
    methods: dict[str, str]


@dataclass(frozen=True)
class Result:
    """What was seen, and what was not as expected in what was recorded."""

    saw: Saw
    wrong: list[str]


class Telemetries:
    """Ours on both sides, and what they must record; or none of it."""

    def __init__(self, composition: Composition, ours: bool) -> None:
        self._composition = composition
        self.of = {side: MemoryTelemetry(side) for side in SIDES} if ours else {}
        self._aio = composition.flavour == "aio"

    def server(self) -> list[Any]:
        """The layers of the server."""
        ours = self.of.get("server")
        made = ours and (ours.aio_server_interceptors() if self._aio else ours.server_interceptors())
        return self._composition.around("server", made or [])

    def client(self, target: str) -> list[Any]:
        """The layers of a channel to the target."""
        ours = self.of.get("client")
        make = ours and (ours.aio_client_interceptors if self._aio else ours.client_interceptors)
        return self._composition.around("client", [*make(target=target)] if make else [])

    def wrong(self, expected: Sequence[Expected], undecided: set[str]) -> list[str]:
        """What is not as expected once both sides have settled; nothing, as soon as nothing is.

        undecided are the methods of which nothing is expected.
        """
        found: list[list[str]] = [[]]

        def right() -> bool:
            sides = {side: recorded_by_ours([telemetry], side) for side, telemetry in self.of.items()}
            found.append([*self._wrong(sides, expected, undecided)])
            return not found[-1]

        if self.of:
            with suppress(AssertionError):
                eventually(right, SETTLING_S)
        return found[-1]

    def _wrong(
        self, sides: dict[str, Side], expected: Sequence[Expected], undecided: set[str]
    ) -> Iterable[str]:
        for side, by_method in sides.items():
            statuses: dict[str, Counter[str]] = defaultdict(Counter)
            for each in expected:
                statuses[each.methods[side]].update(each.statuses[side])
            for method in {*statuses, *by_method} - undecided:
                spans_may_stand_back = self._composition.other.spans and side == self._composition.side
                found = _statuses(by_method[method])
                if spans_may_stand_back and found["spans"] <= statuses[method]:
                    del found["spans"]
                for signal, counted in found.items():
                    if counted != statuses[method]:
                        yield f"{side} {signal} of {method}: {counted}, not {statuses[method]}"
                if by_method[method].started != statuses[method].total():
                    yield f"{side} started {method}: {by_method[method].started}"
                if by_method[method].in_flight:
                    yield f"{side} in flight {method}: {by_method[method].in_flight}"
        for each in expected:
            yield from _wrong_parents(sides, each)


def _statuses(recorded: Recorded) -> dict[str, Counter[str]]:
    return {
        "spans": Counter(span.status for span in recorded.spans),
        "lines": Counter(line["status"] for line in recorded.lines),
        "counters": Counter({status: int(count) for status, count in recorded.handled_once.items()}),
    }


def _wrong_parents(sides: dict[str, Side], each: Expected) -> Iterable[str]:
    """The client's spans are the caller's children; the server's are the client's, one for each attempt."""
    client, server = (
        [span for span in sides[side][each.methods[side]].spans if span.trace_id == each.trace_id]
        for side in ("client", "server")
    )
    caller = each.trace_id & (2**64 - 1)
    if any(CONTRIB_PARENTS.ours(span.parent_id) != caller for span in client):
        yield f"client spans of {each.call.method} are not the caller's children"
    parents = Counter(CONTRIB_PARENTS.ours(span.parent_id) for span in server)
    if not parents.keys() <= ({span.span_id for span in client} or {caller}):
        yield f"server spans of {each.call.method} are not the client's children"
    if len(client) > 1 and max(parents.values(), default=1) > 1:
        yield f"attempts of {each.call.method} share one parent on the server"


def run(composition: Composition, loop: Loop, ours: bool) -> Result:
    """Make all its calls, at once."""
    calls = composition.other.calls()
    telemetries = Telemetries(composition, ours)
    handlers = Handlers(calls, composition.flavour)
    traces = {call: 1 + number << 64 | 1 + number for number, call in enumerate(calls)}

    def observe(call: Call) -> dict[str, Any]:
        seen = handlers.seen[call]
        client_saw = pair.make(call, seen, traces[call], composition.other.stub)
        return {"client": client_saw, "handler": handler_saw(call, seen)}

    with ExitStack() as ends:
        with STARTING:
            pair = ends.enter_context(
                Pair(composition.flavour, handlers, loop, telemetries.server(), telemetries.client)
            )
            pool = ends.enter_context(ThreadPoolExecutor(len(calls)))
            futures = {call: pool.submit(observe, call) for call in calls}
            for call, future in futures.items():
                if call.has_deadline:
                    handlers.seen[call].entered.wait(SOON_S)
                else:
                    future.exception()
        saw = {call: future.result() for call, future in futures.items()}
        undecided = {call for call in calls if composition.other.undecided(call, composition.position)}
        expected = [
            _expected(composition, call, traces[call], saw[call]["client"]["status"], handlers)
            for call in calls
            if call not in undecided
        ]
        return Result(saw, telemetries.wrong(expected, {call.method for call in undecided}))


def _expected(
    composition: Composition, call: Call, trace_id: int, status: str, handlers: Handlers
) -> Expected:
    other, position = composition.other, composition.position
    server: tuple[str, ...] = (status,)
    client: tuple[str, ...] = (status,)
    if call.end == "fails twice":
        server = ("UNAVAILABLE", "UNAVAILABLE", "OK")[: attempts(handlers.seen[call])]
        client = server if position == "innermost" else (status,)
    if other.refuses and position != "outermost":
        server = ()
    methods = {"server": other.method or call.method, "client": call.method}
    return Expected(call, trace_id, {"server": server, "client": client}, methods)
