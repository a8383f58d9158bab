"""Child processes: each in a session of its own, its output in files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.run.text import printable

POLL_S = 0.05
TAIL_BYTES = 4096

# Linux: when the supervisor is killed, its children get SIGTERM. Set in the child's own process and kept over
# the exec, because code between fork and exec (preexec_fn) is not safe in a process with threads.
TIED_TO_PARENT = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class Process:
    """A running child. A terminal's Ctrl-C does not reach it."""

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
        """One line: what it ended with, and the last that it had to say."""
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
