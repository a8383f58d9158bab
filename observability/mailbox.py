"""A bounded queue with a thread behind it: putting something in never waits, whatever the thread is doing."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
PAUSE_S = 0.001  # lets the threads of requests go first


class _Marker:
    """Stands in the queue for a flush: it is reached when all that was before it has been delivered."""

    def __init__(self) -> None:
        self.reached = threading.Event()


class Mailbox(Generic[T]):
    """Delivers what is put in, in batches and in order, on its own thread.

    - deliver: takes a batch; what it raises is counted by failed, and the batch is gone.
    - limit: how many items may wait, or how much, where size gives the size of one; what does not fit is
      dropped.
    - batch: how many items are delivered at once; after each batch, other threads have their turn.
    - enough: how many items do not wait for delay_s; waking a thread costs as much as many items do.

    `put` may be called from any thread, from an event loop, and in the midst of a garbage collection, even on
    a thread that is in `put` already: it takes no lock that could be held by its own thread. What gevent
    patches is looked up when it is used, as this module may have been imported before.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[list[T]], None],
        failed: Callable[[], None],
        *,
        limit: int,
        batch: int,
        enough: int,
        delay_s: float,
        size: Callable[[T], int] | None = None,
    ) -> None:
        self._name = name
        self._deliver = deliver
        self._failed = failed
        self._limit = limit
        self._batch = batch
        self._enough = enough
        self._delay_s = delay_s
        self._size_of = size
        self.begin()

    def begin(self) -> None:
        """Start from nothing, as a forked child does: what waits is the parent's to deliver."""
        self._items: deque[T | _Marker] = deque()
        self._size = 0
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()  # whether the thread must hurry
        self._is_called = False
        self._is_hurried = False
        self.is_closed = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, *, urgent: bool = False) -> bool:
        """Take the item; False when it is dropped, because the queue is full or closed."""
        waiting = len(self._items)
        if self.is_closed or not (waiting < self._limit if self._size_of is None else self._fits(item)):
            return False
        self._items.append(item)
        if urgent or waiting >= self._enough:
            self._hurry()
        elif not self._is_called:
            self._call(hurry=False)
        return True

    def flush(self, timeout_s: float) -> bool:
        """Deliver what waits now; False when that takes longer than timeout_s seconds."""
        if self.is_closed or (self._thread is None and not self._items):
            return not self._items
        marker = _Marker()
        self._items.append(marker)
        self._hurry()
        return marker.reached.wait(timeout_s)

    def close(self, timeout_s: float) -> int:
        """Deliver what waits, for at most timeout_s seconds, and end; how many items are lost."""
        self.flush(timeout_s)
        self.is_closed = True
        lost = sum(not isinstance(item, _Marker) for item in self._items)
        self._items.clear()
        if self._thread is not None:
            self._call(hurry=True)
        return lost

    def join(self, timeout_s: float) -> None:
        """Wait for the delivery that was under way at the close, for at most timeout_s seconds."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout_s)

    def _fits(self, item: T) -> bool:
        size = self._size_of(item) if self._size_of else 0
        self._size += size  # not exact when threads race; right again whenever the queue is empty
        if self._size <= self._limit:
            return True
        self._size -= size
        return False

    def _hurry(self) -> None:
        if not self._is_hurried:
            self._is_hurried = True
            self._call(hurry=True)

    def _call(self, *, hurry: bool) -> None:
        self._is_called = True
        self._calls.put(hurry)
        if self._thread is None and self._starting.acquire(blocking=False):
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"telemetry-{self._name}", daemon=True)
        self._thread = thread  # before it takes the first item, for which a flush must wait
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, and starts no thread any more
            self._thread = None
            self._drain()
        finally:
            self._starting.release()

    def _run(self) -> None:
        while not (self.is_closed and not self._items):
            if not self._calls.get() and not self.is_closed:
                with suppress(queue.Empty):
                    self._calls.get(timeout=self._delay_s)
            self._is_called = self._is_hurried = False
            self._drain()

    def _drain(self) -> None:
        while self._items:
            batch, marker = self._take()
            if batch:
                try:
                    self._deliver(batch)
                except Exception:
                    self._failed()
            if marker is not None:
                marker.reached.set()
            if self._items:
                time.sleep(PAUSE_S if len(self._items) < self._limit // 4 else 0)

    def _take(self) -> tuple[list[T], _Marker | None]:
        """The next batch, and the marker right behind it."""
        batch: list[T] = []
        while len(batch) < self._batch:
            try:
                item = self._items.popleft()
            except IndexError:
                break
            if isinstance(item, _Marker):
                return batch, item
            batch.append(item)
        if self._size_of is not None:
            self._size = self._size - sum(map(self._size_of, batch)) if self._items else 0
        return batch, None
