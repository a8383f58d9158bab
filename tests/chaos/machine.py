"""How busy the machine is with other work: what a program must wait for, however good it is."""

import subprocess
import sys
import threading

WORK_S = 0.01  # of CPU time, each time
REST_S = 0.25
PROGRAM = f"""
import time
while True:
    begun_s, until_s = time.monotonic(), time.thread_time() + {WORK_S}
    while time.thread_time() < until_s:
        pass
    print(begun_s, time.monotonic() - begun_s, flush=True)
    time.sleep({REST_S})
"""


class Machine:
    """Another process does a little work now and then, and measures how long that takes."""

    def __init__(self) -> None:
        self._took: list[tuple[float, float]] = []
        self._worker = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def slowdown(self, from_s: float) -> float:
        """How many times as long as its CPU time work took since then (time.monotonic), at worst; at least 1."""
        took_s = max((took_s for begun_s, took_s in [*self._took] if begun_s >= from_s), default=WORK_S)
        return max(took_s / WORK_S, 1.0)

    def close(self) -> None:
        """Measure no more."""
        self._worker.kill()
        self._worker.wait()
        self._thread.join()
        assert self._worker.stdout
        self._worker.stdout.close()

    def _read(self) -> None:
        assert self._worker.stdout
        for line in self._worker.stdout:
            begun_s, took_s = map(float, line.split())
            self._took.append((begun_s, took_s))
