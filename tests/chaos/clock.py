"""A clock that jumps: libfaketime shows both services another time of day, and leaves their waiting alone.

What only the kernel knows of the time of day, such as a wait on a futex until then, does not jump.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.town import Town

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
CAN_JUMP = LIBRARY is not None and shutil.which("cc") is not None
JUMP = "+3600"
SEEN_S = 1.5  # until the services have seen a jump
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
    for now in (JUMP, "+0"):
        offset.write_text(now)
        time.sleep(SEEN_S)
    offset.write_text(JUMP)
    yield
    offset.write_text("+0")
    time.sleep(SEEN_S)
    for name in SERVICES:
        town.restart(name)
