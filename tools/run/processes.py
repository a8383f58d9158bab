"""Child processes: each started in its own session, watched, and stopped together with the others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.traces.text import printable

POLL_S = 0.05
TAIL_BYTES = 4096
READY_WITHIN_S = 30.0
STOP_WITHIN_S = 4.3  # of the 5 s that the whole stop may take by default

# Linux: when the supervisor is killed, its children get SIGTERM. Set in the child's own process and kept over
# the exec, because code between fork and exec (preexec_fn) is not safe in a process with threads.
TIED_TO_PARENT = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class PairError(Exception):
    """The pair cannot start or go on; its text is the one line that the user reads."""


class StopRequests:
    """Notes Ctrl-C and SIGTERM: the first asks to stop, a Ctrl-C after it asks to stop at once."""

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False

    def take_signals(self) -> None:
        """From now on this process does not end by Ctrl-C and SIGTERM; they are noted here."""
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, _frame: object) -> None:
        # Only Ctrl-C: make passes a SIGTERM on that the process group has been sent already.
        self.at_once |= self.requested and number == signal.SIGINT
        self.requested = True


class Process:
    """A running child, its output in files. A terminal's Ctrl-C does not reach it."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], directory: Path
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._errors = directory / f"{name}.err"
        with self.log.open("wb") as log, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-IS", "-c", TIED_TO_PARENT, str(os.getpid()), *command],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def obituary(self) -> str:
        """One line: what it ended with, and the last line of its standard error."""
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}: {self._last_words() or f'it said nothing; its log is {self.log}'}"

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill what is left of it and of the processes that it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()

    def _last_words(self) -> str:
        tail = self._errors.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        return printable(tail.rpartition("\n")[2])


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


def stop_all(processes: Sequence[Process], within_s: float, at_once: Callable[[], bool]) -> list[Process]:
    """Stop the processes together, and return those that had to be killed."""
    running = [process for process in processes if process.alive]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + within_s
    while any(process.alive for process in running) and time.monotonic() < deadline and not at_once():
        time.sleep(POLL_S)
    late = [process for process in running if process.alive]
    for process in processes:
        process.kill()
    return late
