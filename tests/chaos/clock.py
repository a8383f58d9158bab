"""A clock that jumps: libfaketime shows both services another time of day, and leaves their waiting alone.

What only the kernel knows of the time of day, such as a wait on a futex until then, does not jump.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from observability.testing import eventually
from tests.chaos.town import Town
from tools.web import ask

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
CAN_JUMP = LIBRARY is not None and shutil.which("cc") is not None
JUMP = "+3600"
NEAR_S = 600  # a clock that did not jump is not as far away as that
SEEN_S = 20.0  # until the services have seen a jump, at most
SERVICES = ("recommendations", "marketplace")


@contextmanager
def jumping(town: Town) -> Iterator[None]:
    """The clock of both services jumps an hour ahead, and then back."""
    directory = town.database.parent
    offset, sleep = directory / "clock", directory / "sleep.so"
    source = Path(__file__).with_name("sleep.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", sleep, source], check=True)
    offset.write_text("+0")
    faked = {
        "LD_PRELOAD": f"{sleep} {LIBRARY}",
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for name in SERVICES:
        town.restart(name, **faked)
    for now in (JUMP, "+0", JUMP):
        _jump(town, offset, now)
    yield
    _jump(town, offset, "+0")
    for name in SERVICES:
        town.restart(name)


def _jump(town: Town, offset: Path, by: str) -> None:
    """Both services see it: their /metrics are dated."""
    offset.write_text(by)
    for port in town.pair.metrics.values():
        eventually(partial(_is_ahead, port, float(by)), SEEN_S)


def _is_ahead(port: int, by_s: float) -> bool:
    dated = parsedate_to_datetime(ask(f"http://127.0.0.1:{port}/metrics").headers["Date"])
    return abs(dated.timestamp() - time.time() - by_s) < NEAR_S
