"""A circuit: keeps calls from a service that fails, and finds out by a few probes when it works again.

It also limits the calls at once (a bulkhead), so that a slow service holds some of the caller's threads and
never all of them. Pattern: https://martinfowler.com/bliki/CircuitBreaker.html
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CALLS = 20  # so many calls are looked back at
FAILURES = 10  # so many failures among them open the circuit
WAIT_S = 1.0  # after it opens or a probe fails, until the next probe
PROBES = 2  # at once
WELL = 3  # so many probes that succeed in a row close it
PATIENCE_S = 0.05  # how long a call waits for a place among most_calls
SLOW_S = 0.1  # while a third of the places have been taken for longer than this, no call waits for one


class Refused(Exception):  # noqa: N818 (what the circuit is for, not an error of the program)
    """The call was not made; reason is CIRCUIT_OPEN or TOO_MANY_CALLS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Circuit:
    """The circuit of one service. While it is open, calls are refused but for probes.

    most_calls is how many there may be at once, one a thread. changed is called with True when the circuit
    has opened, and with False when it has closed. clock returns seconds.
    """

    def __init__(
        self,
        most_calls: int,
        changed: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_open = False
        self._most_calls, self._changed, self._clock = most_calls, changed, clock
        self._place = threading.Condition()  # the lock; notified when a call leaves its place
        self._began_s: dict[int, float] = {}  # of the calls in flight, probes among them, by thread
        self._probes = 0  # in flight
        self._failed: deque[bool] = deque(maxlen=CALLS)  # how the last calls ended
        self._well = 0  # probes that succeeded in a row
        self._next_probe_s = 0.0

    def run(self, call: Callable[[], T], is_answer: Callable[[Exception], bool]) -> T:
        """Return or raise what the call does; raise Refused if it is not made.

        An exception is a failure of the service unless it is an answer.
        """
        is_probe = self._enter()
        is_well = False
        try:
            result = call()
            is_well = True
        except Exception as error:
            is_well = is_answer(error)
            raise
        finally:
            if self._leave(is_probe, is_well):
                self._changed(self.is_open)
        return result

    def _enter(self) -> bool:
        """Begin a call, which is a probe if the circuit is open."""
        with self._place:
            if not self._calls_are_slow():
                self._place.wait_for(self._has_place, PATIENCE_S)
            if self.is_open and (self._clock() < self._next_probe_s or self._probes >= PROBES):
                raise Refused("CIRCUIT_OPEN")
            if not self._has_place():
                raise Refused("TOO_MANY_CALLS")
            self._began_s[threading.get_ident()] = self._clock()
            self._probes += self.is_open
            return self.is_open

    def _has_place(self) -> bool:
        return len(self._began_s) < self._most_calls

    def _calls_are_slow(self) -> bool:
        before_s = self._clock() - SLOW_S
        return 3 * sum(began_s < before_s for began_s in self._began_s.values()) >= self._most_calls

    def _leave(self, is_probe: bool, is_well: bool) -> bool:
        """End a call; whether the circuit changed. A call that began before it opened says nothing new."""
        with self._place:
            del self._began_s[threading.get_ident()]
            self._place.notify()
            self._probes -= is_probe
            was_open = self.is_open
            if not was_open:
                self._failed.append(not is_well)
                if sum(self._failed) >= FAILURES:
                    self._open()
            elif is_probe and is_well:
                self._well += 1
                if self._well >= WELL:
                    self._close()
            elif is_probe:
                self._open()
            return self.is_open != was_open

    def _open(self) -> None:
        self.is_open = True
        self._well = 0
        self._next_probe_s = self._clock() + WAIT_S

    def _close(self) -> None:
        self.is_open = False
        self._failed.clear()
