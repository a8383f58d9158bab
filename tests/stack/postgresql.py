"""A PostgreSQL server of the test's, on a free port of loopback, with its data in a directory that goes again."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from observability.testing import eventually
from tests.e2e.processes import free_ports

BINARIES = [Path(found).parent for found in [shutil.which("initdb")] if found] + sorted(
    Path("/usr/lib/postgresql").glob("*/bin")
)
needs_postgresql = pytest.mark.skipif(not BINARIES, reason="PostgreSQL is not there: apt install postgresql")


class Server:
    """It accepts connections until it is closed."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._data = self._directory / "data"
        self._owner: dict[str, Any] = {}
        if os.geteuid() == 0:  # as root it does not start
            shutil.chown(self._directory, "postgres", "postgres")
            self._owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
        (self._port,) = free_ports(1)
        self._run("initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ["fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        command: list[str | Path] = [BINARIES[-1] / "postgres", "-D", self._data, "-p", str(self._port)]
        self.process = subprocess.Popen(
            command + [f"--{setting}" for setting in settings],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._owner,
        )
        eventually(lambda: self.sql("SELECT 1"), 30)

    def of(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def sql(self, command: str, database: str = "postgres") -> bool:
        """Run a command in one of its databases; whether that went well."""
        try:
            self._run("psql", "-X", "-q", "-d", self.of(database), "-v", "ON_ERROR_STOP=1", "-c", command)
        except subprocess.CalledProcessError:
            return False
        return True

    def freeze(self, frozen: bool) -> None:
        """Freeze all of its processes, whatever they are doing, or let them go on."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for process in [self.process.pid, *map(int, children)]:
            with suppress(ProcessLookupError):  # a child may end meanwhile
                os.kill(process, signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop(self) -> None:
        """Stop it without waiting for clients; its data stays."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def close(self) -> None:
        """Stop it, and remove its data."""
        if self.process.poll() is None:
            self.freeze(False)
            self.stop()
        shutil.rmtree(self._directory)

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [BINARIES[-1] / program, *arguments],
            cwd=self._directory,
            check=True,
            capture_output=True,
            timeout=60,
            **self._owner,
        )


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """It accepts connections, and answers nothing."""
    server.freeze(True)
    yield
    server.freeze(False)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Nobody listens."""
    server.stop()
    yield
    server.start()
