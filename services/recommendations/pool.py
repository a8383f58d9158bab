"""The threads that run the handlers: a few warm ones, and more only while those are blocked.

Each thread that wakes competes for the interpreter's lock, so a call costs less CPU when it waits its turn
for a warm thread than when one more thread takes it. A thread that has been in one task for longer than
BLOCKED_S is held up by something else (a sleep, a lock, a client that does not send), and another one serves
meanwhile.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Task = tuple[Future[Any], Callable[[], Any], float]  # and when it was submitted

BLOCKED_S = 0.005
LOOK_S = 0.01  # how often the pool looks for blocked threads while tasks wait


class Pool(Executor):
    """Runs tasks on `warm` threads, and on at most `most` while some of them are blocked.

    It stands in for a ThreadPoolExecutor, but must be shut down: idle threads do not end by themselves.
    """

    def __init__(self, warm: int, most: int) -> None:
        self._warm = warm
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[Task] = deque()
        self._idle: list[_Worker] = []  # the last that came is the next to go: its caches are warm
        self._busy: set[_Worker] = set()
        self._is_shut_down = False
        self._crowded = threading.Event()  # set while tasks wait
        self._watch = threading.Thread(target=self._keep_moving, daemon=True)
        self._watch.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run fn as soon as a thread is free for it."""
        future: Future[T] = Future()
        task = (future, partial(fn, *args, **kwargs), time.monotonic())
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._idle:
                worker = self._idle.pop()
                self._busy.add(worker)
                worker.give(task)
            else:
                self._waiting.append(task)
                self._grow()
                if not self._crowded.is_set():
                    self._crowded.set()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks; the threads end when all tasks are done, or those that were not cancelled."""
        cancelled: list[Task] = []
        with self._lock:
            self._is_shut_down = True
            threads: list[threading.Thread] = [*self._idle]
            while self._idle:
                self._idle.pop().give(None)
            if cancel_futures:
                cancelled += self._waiting
                self._waiting.clear()
            self._crowded.set()
        for future, *_ in cancelled:  # without the lock: a callback of the future may use the pool
            future.cancel()
        if wait:
            self._watch.join()  # after it, no thread is started
            with self._lock:
                threads += self._busy
            for thread in threads:
                thread.join()

    def take(self, worker: "_Worker") -> bool:
        """Whether the worker is given a task now, or will be given one later; if not, it has to end."""
        with self._lock:
            if self._waiting:
                worker.give(self._waiting.popleft())
                return True
            self._busy.discard(worker)
            if self._is_shut_down or len(self._idle) >= self._warm:
                return False
            self._idle.append(worker)
            return True

    def _grow(self) -> None:
        """Start threads for waiting tasks if fewer than `warm` are at work. The caller holds the lock."""
        blocked_since = time.monotonic() - BLOCKED_S
        at_work = sum(worker.since > blocked_since for worker in self._busy)
        for _ in range(min(self._warm - at_work, self._most - len(self._busy), len(self._waiting))):
            worker = _Worker(self)
            try:
                worker.start()
            except RuntimeError:  # the system has no thread left; the next look tries again
                return
            self._busy.add(worker)

    def _keep_moving(self) -> None:
        """Look after the tasks that wait behind blocked threads, also when no new task comes."""
        while self._waiting or not self._is_shut_down:
            self._crowded.wait()
            time.sleep(LOOK_S)
            with self._lock:
                self._grow()
                if not self._waiting and not self._is_shut_down:
                    self._crowded.clear()


class _Worker(threading.Thread):
    """A thread of the pool; since is when it was given its task, and waited_s how long that had waited."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(daemon=True)
        self.since = time.monotonic()
        self.waited_s = 0.0
        self._pool = pool
        self._task: Task | None = None
        self._given = threading.Lock()  # held until there is a task; a Semaphore costs more
        self._given.acquire()

    def give(self, task: Task | None) -> None:
        """Let it run the task; None lets it end."""
        self.since = time.monotonic()
        self.waited_s = self.since - task[2] if task else 0.0
        self._task = task
        self._given.release()

    def run(self) -> None:
        """Run one task after another."""
        while self._pool.take(self):
            self._given.acquire()
            if self._task is None:
                return
            _run(*self._task[:2])
            self._task = None  # an idle thread keeps nothing of a call alive


def waited_s() -> float:
    """How many seconds the task that this thread runs had waited; 0 on a thread that is of no pool."""
    thread = threading.current_thread()
    return thread.waited_s if isinstance(thread, _Worker) else 0.0


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
        del future  # which holds the error, which holds this frame
    else:
        future.set_result(result)
