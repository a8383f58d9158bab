"""The pool of threads that run the handlers."""

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import pytest

from observability.testing import eventually
from services.recommendations import pool as module
from services.recommendations.pool import Pool

WAIT_S = 30.0  # for what must happen; a test that waits as long has failed


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(warm=2, most=64)
    yield made
    made.shutdown()


@pytest.fixture
def never_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCKED_S", 3600.0)


@pytest.fixture
def always_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCKED_S", 0.0)


class Held:
    """A task that runs until it is let go."""

    def __init__(self) -> None:
        self.started, self._free = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.started.set()
        assert self._free.wait(WAIT_S)
        return "done"

    def let_go(self) -> None:
        self._free.set()


def hold(pool: Pool, count: int) -> tuple[list[Held], list[Future[str]]]:
    """Start tasks that hold as many threads."""
    tasks = [Held() for _ in range(count)]
    futures = [pool.submit(task) for task in tasks]
    assert all(task.started.wait(WAIT_S) for task in tasks)
    return tasks, futures


def test_results_and_arguments(pool: Pool) -> None:
    """A task gets its arguments, and its result goes to the future, as with any executor."""
    assert pool.submit(int, "ff", base=16).result(WAIT_S) == 255
    assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_task_raises_is_in_its_future(pool: Pool, error: BaseException) -> None:
    """Even what would end a thread goes to the future, and the thread serves on."""

    def fail() -> None:
        raise error

    for _ in range(5):
        assert pool.submit(fail).exception(WAIT_S) is error
    assert pool.submit(int).result(WAIT_S) == 0


@pytest.mark.usefixtures("never_blocked")
def test_tasks_share_the_warm_threads(pool: Pool) -> None:
    """However many tasks wait, two threads run them all while those are at work."""
    ran = [pool.submit(threading.get_ident) for _ in range(500)]
    assert len({future.result(WAIT_S) for future in ran}) <= 2


@pytest.mark.usefixtures("never_blocked")
def test_a_task_waits_its_turn(pool: Pool) -> None:
    """A task for which no thread is free runs when one has finished."""
    tasks, futures = hold(pool, 2)
    third = pool.submit(threading.get_ident)
    assert not third.running()
    tasks[0].let_go()
    assert third.result(WAIT_S)
    tasks[1].let_go()
    assert [future.result(WAIT_S) for future in futures] == ["done", "done"]


def test_blocked_threads_hold_nobody_up(pool: Pool) -> None:
    """Thirty tasks that only end when all of them have started do end, though two threads are warm."""
    all_in = threading.Barrier(30)
    futures = [pool.submit(all_in.wait, WAIT_S) for _ in range(30)]
    assert {future.result(WAIT_S) for future in futures} == set(range(30))


def test_a_task_behind_blocked_ones_needs_no_other(pool: Pool) -> None:
    """The last task is not left waiting for another to be submitted."""
    tasks = [Held(), Held()]
    futures = [pool.submit(task) for task in tasks]
    assert pool.submit(int).result(WAIT_S) == 0
    assert not any(future.done() for future in futures)
    for task in tasks:
        task.let_go()


@pytest.mark.usefixtures("always_blocked")
def test_threads_that_are_not_needed_end(pool: Pool) -> None:
    """When blocked threads come back, two stay."""
    tasks, _ = hold(pool, 20)
    threads = [thread for thread in threading.enumerate() if isinstance(thread, module._Worker)]
    assert len(threads) >= 20
    for task in tasks:
        task.let_go()
    eventually(lambda: sum(thread.is_alive() for thread in threads) <= 2)
    assert pool.submit(int).result(WAIT_S) == 0


@pytest.mark.usefixtures("always_blocked")
def test_there_is_a_maximum() -> None:
    """Blocked or not, no more than `most` tasks run at once; the others run later."""
    pool = Pool(warm=1, most=3)
    tasks, futures = hold(pool, 3)
    later = [pool.submit(Held.__call__, task) for task in tasks]
    assert not any(future.running() for future in later)
    for task in tasks:
        task.let_go()
    assert {future.result(WAIT_S) for future in futures + later} == {"done"}
    pool.shutdown()


@pytest.mark.parametrize("most", [2, 64])
def test_no_task_is_lost(most: int) -> None:
    """Each of many tasks from many threads runs exactly once."""
    pool = Pool(2, most)
    ran: Counter[int] = Counter()

    def call(caller: int) -> None:
        for number in range(2000):
            pool.submit(ran.update, [caller * 2000 + number]).result(WAIT_S)

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(call, range(8)))
    pool.shutdown()
    assert ran == Counter(range(16000))


def test_a_callback_of_a_future_may_submit(pool: Pool) -> None:
    """What is called when a task is done can use the pool."""
    chained: Future[Future[int]] = Future()
    pool.submit(int).add_done_callback(lambda _: chained.set_result(pool.submit(int)))
    assert chained.result(WAIT_S).result(WAIT_S) == 0


@pytest.mark.usefixtures("never_blocked")
def test_a_cancelled_task_does_not_run(pool: Pool) -> None:
    """A task that is cancelled while it waits is passed over."""
    tasks, _ = hold(pool, 2)
    ran = threading.Event()
    waiting = pool.submit(ran.set)
    assert waiting.cancel()
    for task in tasks:
        task.let_go()
    pool.shutdown()
    assert not ran.is_set()


def test_shutdown_ends_all(pool: Pool) -> None:
    """Tasks that were submitted are done, threads have ended, and a new task is refused; twice is harmless."""
    futures = [pool.submit(threading.current_thread) for _ in range(100)]
    pool.shutdown()
    pool.shutdown()
    assert not any(future.result(0).is_alive() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)


@pytest.mark.usefixtures("never_blocked")
def test_shutdown_can_cancel_what_waits(pool: Pool) -> None:
    """With cancel_futures, tasks that run finish, and tasks that wait do not start."""
    tasks, futures = hold(pool, 2)
    waiting = [pool.submit(int) for _ in range(3)]
    pool.shutdown(wait=False, cancel_futures=True)
    for task in tasks:
        task.let_go()
    assert [future.result(WAIT_S) for future in futures] == ["done", "done"]
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(WAIT_S)
    pool.shutdown()


def test_shutdown_need_not_wait(pool: Pool) -> None:
    """With wait=False it returns while tasks run, and those that wait behind them are still done."""
    (task, other), futures = hold(pool, 2)
    futures += [pool.submit(lambda: "done") for _ in range(3)]
    pool.shutdown(wait=False)
    assert not futures[0].done()
    assert [future.result(WAIT_S) for future in futures[2:]] == ["done"] * 3
    task.let_go()
    other.let_go()
    assert futures[0].result(WAIT_S) == "done"


def test_a_system_without_threads(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no thread can be started, the task waits until one can: submit must not raise in gRPC's own thread."""
    start, refused = threading.Thread.start, threading.Event()

    def fail(thread: threading.Thread) -> None:
        refused.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module._Worker, "start", fail)
    waiting = pool.submit(int)
    assert refused.is_set()
    assert not waiting.done()
    monkeypatch.setattr(module._Worker, "start", start)
    assert waiting.result(WAIT_S) == 0


class Kept:
    """Something that a call holds."""


@pytest.mark.parametrize("function", [lambda kept: None, lambda kept: 1 / 0])
def test_nothing_is_kept(pool: Pool, function: Callable[[Any], Any]) -> None:
    """When a task is done, the idle thread keeps neither its arguments nor its error."""
    kept = Kept()
    gone = weakref.ref(kept)
    pool.submit(function, kept).exception(WAIT_S)
    gc.disable()
    try:
        del kept
        eventually(lambda: gone() is None)
    finally:
        gc.enable()
