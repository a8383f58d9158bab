"""A clock that jumps: clock.c, preloaded, shows both services another time of day."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from observability.testing import eventually
from tests.chaos.town import Town
from tools.web import ask

CAN_JUMP = shutil.which("cc") is not None
JUMP_S = 3600
NEAR_S = 600  # a clock that did not jump is not as far away as that
SERVICES = ("recommendations", "marketplace")


@contextmanager
def jumping(town: Town) -> Iterator[None]:
    """The clock of both services jumps an hour ahead, and then back."""
    directory = town.database.parent
    offset, library = directory / "clock", directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    offset.write_bytes(_as_int64(0))
    for name in SERVICES:
        town.restart(name, LD_PRELOAD=str(library), CLOCK_OFFSET_FILE=str(offset))
    for now_s in (JUMP_S, 0, JUMP_S):
        _jump(town, offset, now_s)
    yield
    _jump(town, offset, 0)
    for name in SERVICES:
        town.restart(name)


def _jump(town: Town, offset: Path, by_s: int) -> None:
    """Both services see it: their /metrics are dated."""
    with offset.open("r+b") as file:
        file.write(_as_int64(by_s))
    for port in town.pair.metrics.values():
        eventually(partial(_is_ahead, port, by_s))


def _as_int64(seconds: int) -> bytes:
    return seconds.to_bytes(8, sys.byteorder)


def _is_ahead(port: int, by_s: float) -> bool:
    dated = parsedate_to_datetime(ask(f"http://127.0.0.1:{port}/metrics").headers["Date"])
    return abs(dated.timestamp() - time.time() - by_s) < NEAR_S
