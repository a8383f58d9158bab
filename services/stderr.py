"""Standard error, line by line: code that is not Python's, such as gRPC's core, logs nowhere else.

Such code writes to file descriptor 2, which becomes a pipe. A thread hands each line to a function, and
passes on what that does not take. What Python writes itself, such as tracebacks and the stacks of a crash,
goes to the real one directly: it needs no thread, and is not lost when the process dies.
"""

import faulthandler
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

STDERR = 2
READ = 64 * 1024
LOG_LINE = re.compile(rb"[IWE](\d|$)")  # how one begins, if its end is still to come


class StandardError:
    """Standard error until close(). take is called with each line, and returns whether it took it.

    Writers never wait: what they write while the pipe (64 KiB) is full, because its reader stopped, is lost.
    So are, when the process dies at once, lines that the reader has not had yet.
    """

    def __init__(self, take: Callable[[str], bool]) -> None:
        self._take = take
        self._real = os.dup(STDERR)
        self._pipe, end = os.pipe()
        os.set_blocking(end, False)
        os.dup2(end, STDERR)
        os.close(end)
        sys.stderr = os.fdopen(self._real, "w", buffering=1, errors="backslashreplace", closefd=False)
        if faulthandler.is_enabled():
            faulthandler.enable(self._real)
        self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Hand over what waits, for at most timeout_s seconds; from now on all goes to the real one again."""
        os.dup2(self._real, STDERR)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        rest = b""
        while data := os.read(self._pipe, READ):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hand_over(line + b"\n")
            if len(rest) > READ or not LOG_LINE.match(rest):
                self._pass_on(rest)
                rest = b""
        self._pass_on(rest)
        os.close(self._pipe)

    def _hand_over(self, line: bytes) -> None:
        try:
            is_taken = self._take(line.decode(errors="replace"))
        except Exception:
            is_taken = False
        if not is_taken:
            self._pass_on(line)

    def _pass_on(self, text: bytes) -> None:
        with suppress(OSError):
            while text:
                text = text[os.write(self._real, text) :]
