"""The real command, run as a user runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from observability.testing import eventually
from tests.e2e import processes
from tests.e2e.processes import PATIENT, ROOT

START_S = 60.0
STOP_S = 20.0


class RunningPair:
    """`python -m tools.run` in its own directory. Every process that it starts bears its mark."""

    def __init__(self, directory: Path, variables: dict[str, str], *arguments: str) -> None:
        self.directory = directory
        self._mark = f"PAIR_UNDER_TEST={directory}".encode()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        own = {"PYTHONPATH": str(ROOT), "PAIR_UNDER_TEST": str(directory)}
        with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.run", *arguments],
                cwd=directory,
                env=inherited | PATIENT | own | variables,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return (self.directory / "out").read_text()

    @property
    def err(self) -> str:
        return (self.directory / "err").read_text()

    def wait_until_ready(self) -> "RunningPair":
        eventually(lambda: "Ctrl-C stops it all" in self.out or self.process.poll() is not None, START_S)
        assert self.process.poll() is None, self.err
        return self

    def pid_of(self, command: str) -> int:
        """The process of that command which was started first."""
        return min(pid for pid in self.pids() if command.encode() in _read(pid, "cmdline").split(b"\0"))

    def pids(self) -> list[int]:
        """Every process of the pair, its children's children too. One that is dead bears no mark."""
        everyone = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        return [pid for pid in everyone if self._mark in _read(pid, "environ").split(b"\0")]

    def end(self, *signals: int) -> int:
        """Send the signals; the exit code."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def kill_all(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_S)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def get(port: str, path: str) -> tuple[int, str]:
    status, body, _ = processes.get(f"http://127.0.0.1:{port}{path}")
    return status, body
