"""The faults, each a context in which a part of the town is ill."""

import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial

from observability.testing import eventually
from tests.chaos.clients import resetting, slow
from tests.chaos.clock import CAN_JUMP, jumping
from tests.chaos.town import START_S, Town
from tests.e2e.test_database import corrupt, locked, no_file
from tests.hosts import CAN_MAKE, Namespace
from tests.ill import ILLS, Ill
from tests.stack.postgresql import Server, frozen, stopped

CAN_FREEZE_FILES = os.geteuid() == 0 and shutil.which("chattr") is not None
CROWD = 150

Begin = Callable[[Town], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """One fault, and the parts that it needs for itself; skipped says why it cannot be here.

    database: the one that it is about. closes: nobody listens for a moment. breaks: connections end without
    an answer. counts: what the shop has counted can be compared with what people asked for.
    """

    name: str
    begin: Begin
    parts: frozenset[str]
    database: str = ""
    closes: bool = False
    breaks: bool = False
    counts: bool = True
    writes_fail: bool = False
    skipped: str = ""


def _of(*parts: str) -> frozenset[str]:
    return frozenset(parts)


def _ill(ill: Ill) -> Begin:
    return lambda town: ill(town.world)


@contextmanager
def _dark(town: Town) -> Iterator[None]:
    """Two hosts, of which one answers nothing."""
    before = town.world.names.addresses
    with closing(Namespace()) as there:
        town.world.host = there.host
        second = town.world.start_second()
        town.world.names.addresses = (*before, there.host.address)
        try:
            with there.dark():
                yield
        finally:
            town.world.names.addresses = before
            second.stop()


@contextmanager
def _restarted(town: Town, name: str) -> Iterator[None]:
    """It is stopped and started again."""
    town.restart(name)
    yield


@contextmanager
def _killed_worker(town: Town) -> Iterator[None]:
    """The shop's process that serves is killed, and gunicorn starts another."""
    before = town.process("marketplace")
    os.kill(before, signal.SIGKILL)
    yield
    eventually(lambda: town.answers("/livez"), START_S)


@contextmanager
def _delayed(town: Town, delay_s: float) -> Iterator[None]:
    """Between the services everything takes longer, each way."""
    town.network.delay_s = delay_s
    yield
    town.network.delay_s = 0.0


@contextmanager
def _half_open(town: Town) -> Iterator[None]:
    """Between the services connections stay, and nothing gets through."""
    town.network.is_silent = True
    yield
    town.network.is_silent = False


@contextmanager
def _resets(town: Town) -> Iterator[None]:
    """Between the services all connections are reset, again and again."""
    end = threading.Event()

    def reset() -> None:
        while not end.wait(0.3):
            town.network.reset()

    thread = threading.Thread(target=reset)
    thread.start()
    yield
    end.set()
    thread.join()


@contextmanager
def _collector_away(town: Town) -> Iterator[None]:
    town.collector.is_away = True
    town.collector.reset()
    yield
    town.collector.is_away = False


@contextmanager
def _collector_hangs(town: Town) -> Iterator[None]:
    town.collector.is_silent = True
    yield
    town.collector.is_silent = False


@contextmanager
def _unread(town: Town) -> Iterator[None]:
    """Nobody reads the logs of either service."""
    for log in town.logs.values():
        log.is_stopped = True
    yield
    for log in town.logs.values():
        log.is_stopped = False


@contextmanager
def _full_log(town: Town) -> Iterator[None]:
    """No line of recommendations can be written: the disk is full."""
    path = town.logs["recommendations"].path
    pipe = path.rename(path.with_suffix(".pipe"))
    path.symlink_to("/dev/full")
    town.restart("recommendations")
    yield
    pipe.replace(path)
    town.restart("recommendations")


@contextmanager
def _full_database(town: Town) -> Iterator[None]:
    """The database is lost, and there is no room for a new one."""
    shop = town.process("marketplace")
    soft, hard = resource.prlimit(shop, resource.RLIMIT_FSIZE)
    resource.prlimit(shop, resource.RLIMIT_FSIZE, (4096, hard))
    for file in town.database.parent.glob(f"{town.database.name}*"):
        file.unlink()
    yield
    resource.prlimit(shop, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _removed_database(town: Town) -> Iterator[None]:
    """The database is lost, and is made again."""
    town.database.unlink()
    yield


@contextmanager
def _read_only(town: Town) -> Iterator[None]:
    """The shop starts with a database that it cannot write."""
    subprocess.run(["chattr", "+i", town.database], check=True)
    try:
        town.restart("marketplace")
        yield
    finally:
        subprocess.run(["chattr", "-i", town.database], check=True)


def _postgresql(begin: Callable[[Server], AbstractContextManager[None]]) -> Begin:
    def begun(town: Town) -> AbstractContextManager[None]:
        assert town.postgresql is not None
        return begin(town.postgresql)

    return begun


@contextmanager
def _overload(town: Town) -> Iterator[None]:
    """Many more people come, and none of them waits between two pages."""
    with closing(town.visit(CROWD, 0.0)):
        yield


FAULTS = [
    *(Fault(f"recommendations {name}", _ill(ill), _of("recommendations")) for name, ill in ILLS.items()),
    Fault("recommendations restarted", partial(_restarted, name="recommendations"), _of("recommendations")),
    Fault(
        "one of two hosts dark", _dark, _of("recommendations", "network"), counts=False,
        skipped="" if CAN_MAKE else "needs root and iproute2",
    ),
    Fault("network 30 ms slower each way", partial(_delayed, delay_s=0.03), _of("network")),
    Fault("network 400 ms slower each way", partial(_delayed, delay_s=0.4), _of("network")),
    Fault("network half open", _half_open, _of("network")),
    Fault("network resets connections", _resets, _of("network")),
    Fault("SQLite locked", lambda town: locked(town.database), _of("database"), "sqlite"),
    Fault("SQLite corrupt", lambda town: corrupt(town.database), _of("database"), "sqlite"),
    Fault("SQLite gone", lambda town: no_file(town.database), _of("database"), "sqlite"),
    Fault("SQLite lost", _removed_database, _of("database"), "sqlite"),
    Fault("SQLite lost, disk full", _full_database, _of("database", "shop"), "sqlite"),
    Fault(
        "shop restarted, SQLite read-only", _read_only, _of("database", "shop"), "sqlite", closes=True, counts=False,
        skipped="" if CAN_FREEZE_FILES else "needs root and chattr",
    ),
    Fault("PostgreSQL frozen", _postgresql(frozen), _of("database"), "postgresql"),
    Fault("PostgreSQL stopped", _postgresql(stopped), _of("database"), "postgresql"),
    Fault("shop restarted", partial(_restarted, name="marketplace"), _of("shop"), closes=True, counts=False),
    Fault("shop's worker killed", _killed_worker, _of("shop"), closes=True, breaks=True, counts=False),
    Fault("collector away", _collector_away, _of("collector")),
    Fault("collector hangs", _collector_hangs, _of("collector")),
    Fault("logs unread", _unread, _of("logs")),
    Fault("recommendations' log on a full disk", _full_log, _of("logs", "recommendations"), writes_fail=True),
    Fault("overload", _overload, _of("people")),
    Fault("slow clients", slow, _of("clients")),
    Fault("clients reset connections", resetting, _of("clients")),
    Fault(
        "clock jumps an hour", jumping, _of("recommendations", "shop"), closes=True, counts=False,
        skipped="" if CAN_JUMP else "needs a C compiler, cc",
    ),
]  # fmt: skip
