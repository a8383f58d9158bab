"""People who open one page after another, each when the last has come."""

import asyncio
import itertools
import re
import threading
import time
from typing import NamedTuple

PATHS = ("/", "/?category=science_fiction", "/?category=self_help", "/books", "/books/5")
GIVE_UP_S = 10.0
AGAIN_S = 0.05  # after a page that was not answered


class Page(NamedTuple):
    """A page that somebody got: when it was asked for (seconds of time.monotonic), and how long it took.

    status is 0 if the shop did not answer. shows is what it recommends: "new" books, those of a moment ago
    ("kept"), "none", or "" if it is no page that recommends; "closed" if nobody listened.
    """

    asked_s: float
    took_s: float
    status: int
    shows: str
    path: str


class Crowd:
    """So many people at a shop of this machine, until they are sent home; pause_s is between two pages of one."""

    def __init__(self, port: int, people: int, pause_s: float = 0.0) -> None:
        self.pages: list[Page] = []
        self._port, self._people, self._pause_s = port, people, pause_s
        self._home = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._visit()))
        self._thread.start()

    def close(self) -> None:
        """Send them home when they have their pages."""
        self._home.set()
        self._thread.join()

    async def _visit(self) -> None:
        await asyncio.gather(*(self._person(first) for first in range(self._people)))

    async def _person(self, first: int) -> None:
        wire = None
        for path in itertools.islice(itertools.cycle(PATHS), first % len(PATHS), None):
            if self._home.is_set():
                break
            asked_s = time.monotonic()
            status, shows = 0, ""
            try:
                wire = wire or await asyncio.open_connection("127.0.0.1", self._port)
                status, close, text = await asyncio.wait_for(_get(*wire, path), GIVE_UP_S)
                shows = _shown(path, status, text)
            except (OSError, EOFError, TimeoutError):
                close = True
                shows = "" if wire else "closed"
            self.pages.append(Page(asked_s, time.monotonic() - asked_s, status, shows, path))
            await asyncio.sleep(self._pause_s if status else max(self._pause_s, AGAIN_S))
            if close and wire:
                wire[1].close()
                wire = None
        if wire:
            wire[1].close()


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
) -> tuple[int, bool, str]:
    """Status, whether the connection ends, and body."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", head)
    assert length
    body = await reader.readexactly(int(length[1]))
    return int(head.split()[1]), "connection: close" in head, body.decode()


def _shown(path: str, status: int, text: str) -> str:
    if path == "/books" or status != 200:
        return ""
    if "not available now" not in text:
        return "new"
    return "kept" if "<li>" in text else "none"
