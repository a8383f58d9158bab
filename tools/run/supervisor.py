"""The watch over the running services."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tools.run.failure import PairError
from tools.run.processes import POLL_S, Process, stop_all
from tools.run.stop import StopRequests

READY_WITHIN_S = 30.0
STOP_WITHIN_S = 4.3  # of the 5 s that the whole stop may take by default

Checks = Mapping[Process, Callable[[], bool]]


@contextmanager
def supervised(stop: StopRequests, within_s: float = STOP_WITHIN_S) -> Iterator[list[Process]]:
    """A list to put processes on; whatever happens, they are all stopped at the end, within that time."""
    processes: list[Process] = []
    try:
        yield processes
    finally:
        for process in stop_all(processes, within_s, at_once=lambda: stop.at_once):
            sys.stderr.write(f"{process.name} had not stopped, and was killed\n")


def wait_until_ready(checks: Checks, stop: StopRequests, within_s: float = READY_WITHIN_S) -> None:
    """Return when every check holds, or at a request to stop. Raise PairError when that cannot come true."""
    deadline = time.monotonic() + within_s
    for process, is_ready in checks.items():
        while not (stop.requested or is_ready()):
            require_alive([*checks], stop)
            if time.monotonic() > deadline:
                raise PairError(
                    f"{process.name} was not ready within {within_s:g} s; its log is {process.log}"
                )
            time.sleep(POLL_S)


def watch(services: Sequence[Process], helper: Process | None, stop: StopRequests) -> None:
    """Return at a request to stop. Raise PairError when a service ends; a helper's end is only reported."""
    while not stop.requested:
        require_alive(services, stop)
        if helper and not helper.alive:
            sys.stdout.write(f"{helper.obituary()}; the services go on without it\n")
            helper = None
        time.sleep(POLL_S)


def require_alive(services: Sequence[Process], stop: StopRequests) -> None:
    """Raise PairError for a service that ended without being asked to."""
    dead = next((process for process in services if not process.alive), None)
    if dead and not stop.requested:
        raise PairError(dead.obituary())
