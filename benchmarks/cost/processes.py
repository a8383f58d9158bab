"""The processes of the benchmark, and how much CPU time each has used, read from outside."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from observability.testing import eventually

SCHEDULER_CLOCK = 2  # Linux: the id of a process's CPU clock is made of its pid and this
START_S = 30.0


class Process:
    """A Python module as a process, which says its port first and ends when its standard input ends."""

    def __init__(self, output: Path, *command: str, **variables: str) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=inherited | variables,
                stdin=subprocess.PIPE,
                stdout=file,
            )
        self.port = int(eventually(lambda: self._first_line(output), START_S))
        self.target = f"127.0.0.1:{self.port}"
        self._clock = (~self._process.pid << 3) | SCHEDULER_CLOCK

    def cpu_s(self) -> float:
        """Seconds of CPU time that all its threads, ended ones too, have used so far; exact to 1 us."""
        return time.clock_gettime(self._clock)

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _first_line(self, output: Path) -> str:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}")
        line, newline, _ = output.read_text().partition("\n")
        return line if newline else ""
