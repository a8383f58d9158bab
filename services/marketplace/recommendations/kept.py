"""The last good answers, to be shown for a short while when there is no new one."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 100


class Kept(Generic[T]):
    """The last value of each of at most 100 keys, for keep_s seconds; clock returns seconds."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._lock = threading.Lock()
        self._values: dict[int, tuple[float, T]] = {}  # the oldest comes first

    def put(self, key: int, value: T) -> None:
        """Keep the value, and no other of that key."""
        with self._lock:
            self._values.pop(key, None)
            self._values[key] = (self._clock() + self._keep_s, value)
            if len(self._values) > MOST:
                del self._values[next(iter(self._values))]

    def get(self, key: int) -> T | None:
        """The value, unless it is too old."""
        until_s, value = self._values.get(key, (0.0, None))
        return value if self._clock() < until_s else None
