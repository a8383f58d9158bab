"""A thousand pages while recommendations is killed half-way: their answers, and the slowest of them.

Run: python -m tests.degraded
"""

import signal
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.processes import Pair, pair

PAGES, PEOPLE = 1000, 8


def main() -> None:
    """Print the figures."""
    directory, people = tempfile.TemporaryDirectory(), ThreadPoolExecutor(PEOPLE)
    with directory as path, pair(Path(path)) as (running, _), people:
        asked = [people.submit(_page, running, number) for number in range(PAGES)]
        answers = [each.result() for each in asked]
    statuses = Counter(status for status, _, _ in answers)
    degraded = sum(without for _, without, _ in answers)
    slowest = max(took_ms for _, _, took_ms in answers)
    print(f"statuses {dict(statuses)}, without recommendations {degraded}, slowest {slowest:.0f} ms")


def _page(running: Pair, number: int) -> tuple[int, bool, float]:
    if number == PAGES // 2:
        running.recommendations.process.send_signal(signal.SIGKILL)
    started = time.perf_counter()
    status, page, _ = running.get("/")
    return status, "not available now" in page, (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
