"""The circuit, on a clock that the test turns."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from services.marketplace.recommendations.circuit import (
    CALLS,
    FAILURES,
    PROBES,
    SLOW_S,
    WAIT_S,
    WELL,
    Circuit,
    Refused,
)


class Ill(Exception):  # noqa: N818
    """The service failed."""


class Answered(Exception):  # noqa: N818
    """The service said no."""


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class World:
    """A circuit, its clock, and what it reported of its changes."""

    def __init__(self, most_calls: int = 8) -> None:
        self.clock, self.changes = Clock(), list[bool]()
        self.circuit = Circuit(most_calls, self.changes.append, self.clock)

    def call(self, error: Exception | None = None, after: Callable[[], object] = lambda: None) -> str:
        """How a call ended that waits for `after`: its result, or why there was none."""

        def service() -> str:
            after()
            if error:
                raise error
            return "well"

        try:
            return self.circuit.run(service, lambda error: isinstance(error, Answered))
        except Refused as refused:
            return refused.reason
        except (Ill, Answered) as ended:
            return type(ended).__name__

    def open(self) -> None:
        for _ in range(FAILURES):
            self.call(Ill())
        assert self.circuit.is_open


def test_it_opens_when_half_of_the_last_calls_failed() -> None:
    """It says so once, and refuses calls without making them."""
    world = World()
    for _ in range(CALLS):
        world.call()
    assert [world.call(Ill()) for _ in range(FAILURES)] == ["Ill"] * FAILURES
    assert world.changes == [True]
    assert world.call(after=lambda: pytest.fail("it was called")) == "CIRCUIT_OPEN"


def test_a_few_failures_do_not_open_it() -> None:
    """Failures that were long ago do not count, however many there are in all."""
    world = World()
    for _ in range(10 * CALLS):
        world.call(Ill())
        world.call()
        world.call()
    assert not world.circuit.is_open


def test_an_answer_is_no_failure() -> None:
    """An exception that is the service's answer is passed on, and leaves the circuit closed."""
    world = World()
    assert {world.call(Answered()) for _ in range(5 * CALLS)} == {"Answered"}
    assert not world.circuit.is_open


def test_probes_close_it() -> None:
    """No probe before the wait is over; when some succeed in a row it is closed, and what was is forgotten."""
    world = World()
    world.open()
    world.clock.now_s += WAIT_S - 0.001
    assert world.call() == "CIRCUIT_OPEN"
    world.clock.now_s += 0.001
    assert [world.call() for _ in range(WELL)] == ["well"] * WELL
    assert world.changes == [True, False]
    assert [world.call(Ill()) for _ in range(FAILURES - 1)] == ["Ill"] * (FAILURES - 1)
    assert not world.circuit.is_open


def test_a_probe_that_fails_begins_the_wait_again() -> None:
    """Successes before it do not count."""
    world = World()
    world.open()
    for _ in range(3):
        world.clock.now_s += WAIT_S
        assert [world.call() for _ in range(WELL - 1)] == ["well"] * (WELL - 1)
        assert world.call(Ill()) == "Ill"
        assert world.call() == "CIRCUIT_OPEN"
    assert world.changes == [True]


def together(world: World, count: int, made: int) -> list[str]:
    """How calls end that are there at once: as many as are made wait until the others are refused."""
    refused = threading.Semaphore(0)
    end = threading.Event()

    def one(_: int) -> str:
        how = world.call(after=end.wait)
        refused.release()
        return how

    with ThreadPoolExecutor(count) as people:
        ending = people.map(one, range(count))
        for _ in range(count - made):
            assert refused.acquire(timeout=30)
        end.set()
        return sorted(ending)


def test_only_so_many_calls_at_once() -> None:
    """More are refused at once, which is no failure; later ones are made."""
    world = World(most_calls=3)
    for _ in range(FAILURES):
        assert together(world, 8, made=3) == ["TOO_MANY_CALLS"] * 5 + ["well"] * 3
    assert world.changes == []


def test_only_a_few_probes_at_once() -> None:
    """While probes wait for their answer, other calls are refused."""
    world = World()
    world.open()
    world.clock.now_s += WAIT_S
    assert together(world, 8, made=PROBES) == ["CIRCUIT_OPEN"] * (8 - PROBES) + ["well"] * PROBES


@contextmanager
def lingering(world: World, error: Exception | None = None) -> Iterator[Callable[[], str]]:
    """A call that is in flight until the function is called, which returns how it ended."""
    began, end = threading.Event(), threading.Event()

    def linger() -> None:
        began.set()
        end.wait()

    def ended() -> str:
        end.set()
        return call.result()

    with ThreadPoolExecutor(1) as people:
        call = people.submit(world.call, error, linger)
        began.wait()
        try:
            yield ended
        finally:
            end.set()


@pytest.mark.parametrize(("error", "how"), [(None, "well"), (Ill(), "Ill")])
def test_late_ends_say_nothing(error: Exception | None, how: str) -> None:
    """A call that began before it opened and ends while it is open is not taken for a probe."""
    world = World()
    with lingering(world, error) as ended:
        world.open()
        world.clock.now_s += WAIT_S
        assert ended() == how
    assert [world.call() for _ in range(WELL - 1)] == ["well"] * (WELL - 1)
    assert world.changes == [True]
    assert world.call() == "well"
    assert world.changes == [True, False]


def test_a_call_waits_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made as soon as another has ended."""
    monkeypatch.setattr("services.marketplace.recommendations.circuit.PATIENCE_S", 120)
    world = World(most_calls=1)
    with lingering(world) as ended, ThreadPoolExecutor(1) as people:
        waiting = people.submit(world.call)
        assert ended() == "well"
        assert waiting.result(timeout=60) == "well"


def test_no_call_waits_while_calls_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a third of the places have been taken for long, who finds none is refused at once."""
    monkeypatch.setattr("services.marketplace.recommendations.circuit.PATIENCE_S", 120)
    world = World(most_calls=2)
    with lingering(world), ThreadPoolExecutor(1) as people:
        world.clock.now_s += 2 * SLOW_S
        with lingering(world):
            assert people.submit(world.call).result(timeout=60) == "TOO_MANY_CALLS"
