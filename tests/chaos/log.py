"""A service's log, read from a pipe as it is written; the reader can stop for a while."""

import json
import os
import select
import threading
from collections import Counter
from pathlib import Path

BEGINS = '{"time": '
READ = 64 * 1024


class Log:
    """Stands at the path to which a service writes its lines, and counts them by event."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: Counter[str] = Counter()
        self.broken: list[str] = []
        self.is_stopped = False
        os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR)  # it stays open when the service ends
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._end.set()
        self._thread.join()
        os.close(self._pipe)

    def _read(self) -> None:
        rest = b""
        while not self._end.is_set():
            if self.is_stopped:
                self._end.wait(0.05)
            elif select.select([self._pipe], [], [], 0.05)[0]:
                *lines, rest = (rest + os.read(self._pipe, READ)).split(b"\n")
                for line in lines:
                    self._take(line.decode())

    def _take(self, text: str) -> None:
        """A line; of one that a kill cut off, the end is the next process's first."""
        try:
            self.events[json.loads(text[max(text.rfind(BEGINS), 0) :])["event"]] += 1
        except (ValueError, KeyError):
            self.broken.append(text)
