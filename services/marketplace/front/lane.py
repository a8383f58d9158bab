"""Threads that answer requests, and the bounded queue before them."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Lane(Generic[Job]):
    """Does at most `threads` jobs at once; at most `most` wait."""

    def __init__(self, name: str, threads: int, most: int, do: Callable[[Job], None]) -> None:
        self._threads, self._most, self._do = threads, most, do
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        for number in range(threads):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def __len__(self) -> int:
        """How many jobs wait because all threads have one."""
        return max(self._unfinished - self._threads, 0)

    def offer(self, job: Job) -> bool:
        """Let a thread do the job as soon as one is free; False when too many wait."""
        with self._lock:
            if self._unfinished >= self._threads + self._most:
                return False
            self._unfinished += 1
        self._jobs.put(job)
        return True

    def _work(self) -> None:
        while True:
            self._do(self._jobs.get())
            with self._lock:
                self._unfinished -= 1
