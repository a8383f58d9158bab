"""Random sequences of what a handler can do with its context: the same on bare grpcio, and recorded truly."""

import functools
import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from observability.testing import eventually
from tests.conformance.case import Case
from tests.conformance.client_behaviours import Client, standard
from tests.conformance.observations import Seen
from tests.conformance.outcomes import status_in
from tests.conformance.servers import Methods, World
from tests.conformance.stacks import Bare, Ours

Step = tuple[str, Any]
CODES: list[Any] = [*grpc.StatusCode, 0, 5, 77]
BAD = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
METADATA = st.lists(
    st.sampled_from([("a", "1"), ("a", "2"), ("b", ""), ("raw-bin", b"\x00\xff")]), max_size=3
).map(tuple)
STEPS = st.one_of(
    st.tuples(st.just("set_code"), st.sampled_from(CODES)),
    st.tuples(st.just("set_details"), st.text("aö€ %\n", max_size=5)),
    st.tuples(st.just("set_trailing_metadata"), METADATA),
    st.tuples(st.just("send_initial_metadata"), METADATA),
    st.tuples(st.just("ask"), st.none()),
    st.tuples(st.just("respond"), st.sampled_from([b"", b"x", b"response", None, 5])),
    st.tuples(st.just("abort"), st.tuples(st.sampled_from(BAD), st.text("aö€", max_size=3))),
    st.tuples(st.just("raise"), st.sampled_from([ValueError, Exception, KeyError, StopIteration])),
)
# Not on asyncio: what is set after an abort that was swallowed is recorded there, though the abort is on the wire.
IN_VAIN = st.tuples(st.just("abort_in_vain"), st.tuples(st.sampled_from(BAD), st.text("aö€", max_size=3)))
EXAMPLES = 60
SCRIPT: list[Step] = []


def act(context: Any, seen: Seen, step: Step) -> Any:
    """Do one step; on asyncio it may give something to await for."""
    name, value = step
    if name == "raise":
        raise value("broken")
    if name == "ask":
        seen.events.append((context.code(), context.details(), context.trailing_metadata()))
        return None
    if name in {"abort", "abort_in_vain"}:
        return context.abort(*value)
    return getattr(context, name)(value)


def sync_act(context: Any, seen: Seen, step: Step) -> None:
    """The same on a threaded server."""
    try:
        act(context, seen, step)
    except Exception:
        if step[0] != "abort_in_vain":
            raise


async def aio_act(context: Any, seen: Seen, step: Step) -> None:
    """The same on an asyncio server."""
    pending = act(context, seen, step)
    if inspect.isawaitable(pending):
        await pending


def sync_unary(seen: Seen) -> Any:
    def handler(request: bytes, context: Any) -> Any:
        with seen.handling(context):
            for step in SCRIPT:
                if step[0] == "respond":
                    return step[1]
                sync_act(context, seen, step)
            return b"end"

    return handler


def sync_stream(seen: Seen) -> Any:
    def handler(request: bytes, context: Any) -> Iterator[Any]:
        with seen.handling(context):
            for step in SCRIPT:
                if step[0] == "respond":
                    yield step[1]
                else:
                    sync_act(context, seen, step)

    return handler


def aio_unary(seen: Seen) -> Any:
    async def handler(request: bytes, context: Any) -> Any:
        with seen.handling(context):
            for step in SCRIPT:
                if step[0] == "respond":
                    return step[1]
                await aio_act(context, seen, step)
            return b"end"

    return handler


def aio_stream(seen: Seen) -> Any:
    async def handler(request: bytes, context: Any) -> Any:
        with seen.handling(context):
            for step in SCRIPT:
                if step[0] == "respond":
                    yield step[1]
                else:
                    await aio_act(context, seen, step)

    return handler


CASES = [
    Case(f"sequence/{flavour}/{kind}", flavour, kind, handler, standard)
    for flavour, kind, handler in (
        ("sync", "unary_unary", sync_unary),
        ("sync", "unary_stream", sync_stream),
        ("aio", "unary_unary", aio_unary),
        ("aio", "unary_stream", aio_stream),
    )
]


@contextmanager
def world(stack: Any) -> Iterator[World]:
    made = World(stack, Methods(CASES))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    """Servers and channels, bare and ours."""
    with world(Bare()) as bare, world(Ours()) as ours:
        yield {"bare": bare, "ours": ours}


def observed(made: World, case: Case) -> tuple[Any, list[Any]]:
    """What client and handler see of the script."""
    seen = made.methods.seen[case.name]
    seen.events.clear()
    seen.ended.clear()
    client = Client(made.channel("sync", case.flavour, "ipv4"), case, seen, made)
    saw = standard(client, timeout_s=5)
    return saw, [seen.ended.wait(1), *seen.events]


def recorded_of(stack: Any, side: str, case: Case, calls: int) -> list[Counter[str]]:
    """The statuses of all calls so far, by span, counter and log line; nothing until that many have ended."""
    recorded = stack.recorded(side)[case.method[1:]]
    by_signal = [
        Counter(span.status for span in recorded.spans),
        Counter({status: int(count) for status, count in recorded.handled_once.items()}),
        Counter(line["status"] for line in recorded.lines),
    ]
    return by_signal if all(statuses.total() >= calls for statuses in by_signal) else []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sequences(case: Case, worlds: dict[str, World]) -> None:
    """Whatever a handler does with its context, in any order, both see what they see on bare grpcio, and both
    sides' span, counter and log line name the status that the client got.
    """
    stack: Any = worlds["ours"].stack
    before = {side: [Counter[str]()] * 3 for side in ("server", "client")}
    calls = 0

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(st.one_of(STEPS, IN_VAIN) if case.flavour == "sync" else STEPS, max_size=6))
    def run(script: list[Step]) -> None:
        nonlocal calls
        SCRIPT[:] = script
        ours = observed(worlds["ours"], case)
        calls += 1
        ended = {
            side: eventually(functools.partial(recorded_of, stack, side, case, calls)) for side in before
        }
        new = {
            side: [now - then for now, then in zip(ended[side], before[side], strict=True)] for side in ended
        }
        before.update(ended)
        assert ours == observed(worlds["bare"], case)
        assert new == dict.fromkeys(("server", "client"), [Counter([status_in(ours[0])])] * 3)

    run()
