"""Forty people in the shop while recommendations fails: what they get, and when all is well again.

Run: python -m tests.under_faults [WORD ...] (the faults whose name has one of the words; else all)
It prints the figures of docs/operations.md.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

from tests.crowd import Crowd, Page
from tests.hosts import Namespace
from tests.ill import ILLS, Ill, World, world

PEOPLE = 40
WARM_S, WELL_S, ILL_S, AFTER_S = 3.0, 5.0, 8.0, 10.0
FIRST_S = 1.0  # of a fault, in which the shop may notice
ENOUGH = 0.9  # of the pages of a shop that is well
HEADER = ("Recommendations is", "pages/s before", "in the 1st second", "after it", "slowest", "not 200", "shown: new, kept, none", "normal after")  # fmt: skip


def main() -> None:
    """Print a line for each fault."""
    print(
        "|".join(("", *(f" {word} " for word in HEADER), "")),
        "|".join(("", *("---" for _ in HEADER), "")),
        sep="\n",
    )
    for name, ill in ILLS.items():
        _print(name, partial(alone, ill))
    _print("dark: one of two hosts", one_of_two)


def _print(name: str, play: Callable[[Path], Sequence[str]]) -> None:
    if not sys.argv[1:] or any(word in name for word in sys.argv[1:]):
        with tempfile.TemporaryDirectory() as directory:
            print("|".join(("", *(f" {cell} " for cell in (name, *play(Path(directory)))), "")), flush=True)


def alone(ill: Ill, directory: Path) -> Sequence[str]:
    """One instance of recommendations, which is ill."""
    with world(directory) as well:
        return _measured(well, ill(well))


def one_of_two(directory: Path) -> Sequence[str]:
    """Two instances, and the host of one is dark."""
    with closing(Namespace()) as there, world(directory, there.host) as well:
        well.start_second()
        return _measured(well, there.dark())


def _measured(well: World, fault: AbstractContextManager[None]) -> Sequence[str]:
    with closing(Crowd(int(well.pair.url.rpartition(":")[2]), PEOPLE)) as crowd:
        time.sleep(WARM_S + WELL_S)
        begun_s = time.monotonic()
        with fault:
            time.sleep(ILL_S)
        ended_s = time.monotonic()
        time.sleep(AFTER_S)
    before = rate(crowd.pages, begun_s - WELL_S, begun_s)
    noticed_s = begun_s + FIRST_S
    later = rate(crowd.pages, noticed_s, ended_s)
    ill = [page for page in crowd.pages if begun_s - 0.5 <= page.asked_s < ended_s]
    shown = [page.shows for page in ill if page.shows and page.asked_s >= noticed_s]
    return (
        f"{before:.0f}",
        f"{rate(crowd.pages, begun_s, noticed_s) / before:.0%}",
        f"{later / before:.0%}",
        f"{max(page.took_s for page in ill) * 1e3:.0f} ms",
        str(sum(page.status != 200 for page in crowd.pages if page.asked_s >= begun_s)),
        ", ".join(f"{shown.count(what) / len(shown):.0%}" for what in ("new", "kept", "none")),
        _normal(crowd.pages, ended_s, ENOUGH * before),
    )


def rate(pages: Sequence[Page], from_s: float, to_s: float) -> float:
    """Pages a second that people got in that time."""
    return sum(from_s <= page.asked_s + page.took_s < to_s for page in pages) / (to_s - from_s)


def _normal(pages: Sequence[Page], ended_s: float, enough: float) -> str:
    """The time from the end of the fault to a second with enough pages, and new recommendations on them."""
    for tenths in range(int(AFTER_S - 1) * 10):
        from_s = ended_s + tenths / 10
        second = [page for page in pages if from_s <= page.asked_s < from_s + 1]
        shown = [page.shows for page in second if page.shows]
        if len(second) >= enough and shown.count("new") >= ENOUGH * len(shown):
            return f"{tenths / 10:.1f} s"
    return f"more than {AFTER_S - 1:.0f} s"


if __name__ == "__main__":
    main()
