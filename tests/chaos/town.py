"""What the faults are about: the pair, its database, collector, logs and network, and the people in the shop."""

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from observability.receiver import Receiver
from observability.testing import eventually
from tests.chaos.log import Log
from tests.chaos.machine import Machine
from tests.crowd import Crowd
from tests.e2e.processes import Pair
from tests.e2e.test_holding_out import NAMES, serving, status_of
from tests.hosts import LOOPBACK
from tests.ill import World, world
from tests.relay import Relay
from tests.stack.postgresql import Server

PEOPLE, PAUSE_S = 16, 0.05
STOP_S = 0.5 + 3.0 + 2.0  # DRAIN_S and GRACE_S, as they are by default, and two seconds
STOP_CPU_S = 0.5  # that a service needs for it
START_S = 60.0
RELAYED = "127.0.0.3"  # where the shop finds recommendations, behind its relay


class Town:
    """All of it, well; problems are what is noticed beside the pages."""

    def __init__(self, stack: ExitStack, directory: Path, database: str) -> None:
        self.problems: list[str] = []
        self.was_late = False
        self.spans: Counter[str] = Counter()
        self.crowds: list[Crowd] = []
        self.machine = stack.enter_context(closing(Machine()))
        self.logs = {name: stack.enter_context(closing(Log(directory / f"{name}.log"))) for name in NAMES}
        received = stack.enter_context(closing(Receiver(self._count)))
        collector = "127.0.0.1", int(received.endpoint.rpartition(":")[2])
        self.collector = stack.enter_context(closing(Relay(("127.0.0.1", 0), collector)))
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.collector.port}",
        }
        self.postgresql = stack.enter_context(closing(Server())) if database == "postgresql" else None
        if self.postgresql:
            variables["DATABASE_URL"] = self.postgresql.of("postgres")
        self.world: World = stack.enter_context(world(directory, LOOPBACK, **variables))
        self.database = directory / "var" / "marketplace.sqlite3"
        port = self.pair.grpc
        self.network = stack.enter_context(closing(Relay((RELAYED, port), ("127.0.0.1", port))))
        self.world.names.addresses = (RELAYED,)
        self.restart("recommendations")
        eventually(lambda: self.world.recommends(20), 30)
        self.memory_mib = {name: self.memory_of(name) for name in NAMES}

    @property
    def pair(self) -> Pair:
        """The services."""
        return self.world.pair

    def answers(self, path: str) -> bool:
        """Whether the shop answers this with 200, and in time."""
        with suppress(OSError):
            return self.pair.get(path)[0] == 200
        return False

    def visit(self, people: int = PEOPLE, pause_s: float = PAUSE_S) -> Crowd:
        """People who are in the shop from now on; whoever brings them sends them home."""
        self.crowds.append(Crowd(int(self.pair.url.rpartition(":")[2]), people, pause_s))
        return self.crowds[-1]

    def process(self, name: str) -> int:
        """The id of the process that serves."""
        return serving(self.pair, name)

    def memory_of(self, name: str) -> float:
        """What that process has in memory, in MiB."""
        return status_of(self.process(name), "VmRSS") / 1024

    def restart(self, name: str, **variables: str) -> None:
        """Stop a service with SIGTERM and start it again, with variables besides, until it is ready."""
        begun_s = time.monotonic()
        code = getattr(self.pair, name).stop(signal.SIGTERM)
        took_s = time.monotonic() - begun_s
        if code != 0:
            self.problems.append(f"{name} ended with {code} on SIGTERM")
        self.was_late |= took_s > STOP_S  # it may have been killed at its work
        if took_s > STOP_S + STOP_CPU_S * self.machine.slowdown(begun_s):
            self.problems.append(f"{name} took {took_s:.1f} s to stop")
        self.start(name, **variables)

    def start(self, name: str, **variables: str) -> None:
        """Start a service that has ended."""
        before = self.pair.variables
        self.pair.variables = before | variables
        try:
            if name == "recommendations":
                self.world.restart()
            else:
                self.pair.marketplace = self.pair.start(name)
                eventually(lambda: self.answers("/livez"), START_S)
        finally:
            self.pair.variables = before

    def _count(self, resource: dict[str, Any], spans: Sequence[Any]) -> None:
        self.spans[resource["service.name"]] += len(spans)


@contextmanager
def town(directory: Path, database: str) -> Iterator[Town]:
    """One that is well, with SQLite or PostgreSQL."""
    with ExitStack() as stack:
        yield Town(stack, directory, database)
