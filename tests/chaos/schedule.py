"""Which faults come when, drawn from a seed, and what becomes of the pages in each."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from tests.chaos.checks import Sums, adds_up, comes_true, problems, slowest_s
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.town import Town, town
from tests.crowd import Crowd, Page

CALM_S = 2.0
ILL_S = 2.0, 6.0
NORMAL_S = 10.0
NORMAL_CPU_S = 1.0  # that it may take
ENOUGH_S = 1.0  # without a page that is not normal
TWO = 0.3  # so often two faults come at once
HEADER = ("fault", "s", "pages/s: before, in it", "slowest: home, list", "not 200", "shown: new, kept, none", "normal after", "machine")  # fmt: skip


def run(directory: Path, seed: int, seconds: float, only: str = "", database: str = "sqlite") -> list[str]:
    """Play faults for so long, print a line for each, and return all that does not hold."""
    found: list[str] = []
    about = [fault for fault in FAULTS if fault.database in {"", database} and only in fault.name]
    for fault in about:
        if fault.skipped:
            print(f"not played: {fault.name} ({fault.skipped})")
    _print_row(HEADER)
    _print_row(["---"] * len(HEADER))
    with town(directory, database) as here:
        end_s = time.monotonic() + seconds
        for faults, ill_s in drawn(random.Random(seed), [fault for fault in about if not fault.skipped]):
            found += [f"{_names(faults)}: {problem}" for problem in _play(here, faults, ill_s)]
            if time.monotonic() > end_s:
                return found + [f"at the end: {problem}" for problem in adds_up(here)]
    return found


def drawn(chance: random.Random, known: Sequence[Fault]) -> Iterator[tuple[Sequence[Fault], float]]:
    """One or two faults and how long they last, for ever; each comes once before any comes again."""
    deck: list[Fault] = []
    while True:
        deck = deck or chance.sample(known, len(known))
        faults = [deck.pop()]
        if chance.random() < TWO:
            others = [fault for fault in known if not fault.parts & faults[0].parts]
            faults += chance.sample(others, min(1, len(others)))
        yield faults, chance.uniform(*ILL_S)


def _play(here: Town, faults: Sequence[Fault], ill_s: float) -> list[str]:
    here.crowds.clear()
    here.problems.clear()
    here.was_late = False
    before, started_s = Sums(here), time.monotonic()
    with closing(here.visit()) as crowd:
        time.sleep(CALM_S)
        begun_s = time.monotonic()
        with ExitStack() as all_ill:
            for fault in faults:
                all_ill.enter_context(fault.begin(here))
            time.sleep(ill_s)
        ended_s = time.monotonic()
        normal_s = _normal_s(here, crowd, ended_s)
    slowdown = here.machine.slowdown(started_s)
    pages = [page for each in here.crowds for page in each.pages]
    _print_row(_row(faults, pages, (started_s, begun_s, ended_s), normal_s, slowdown))
    found = [*here.problems, *problems(here, faults, pages, before, slowdown)]
    if normal_s > NORMAL_S + NORMAL_CPU_S * slowdown:
        found.append(f"not normal {normal_s:.1f} s after its end")
    if not comes_true(lambda: here.answers("/readyz")):
        found.append("the shop is not ready")
    for problem in found:
        print("   does not hold:", problem, flush=True)
    return found


def _normal_s(here: Town, crowd: Crowd, ended_s: float) -> float:
    """How long after the fault's end the last page came that was not as it should be."""
    while True:
        time.sleep(0.1)
        now_s = time.monotonic()
        after = [page for page in [*crowd.pages] if page.asked_s >= ended_s]
        ill_s = max((page.asked_s for page in after if not _is_normal(page)), default=ended_s)
        is_calm = now_s - ill_s > ENOUGH_S and any(page.shows == "new" for page in after)
        if is_calm or now_s - ended_s > 3 * NORMAL_S:
            return ill_s - ended_s if is_calm else now_s - ended_s


def _is_normal(page: Page) -> bool:
    return page.status == 200 and page.shows in {"new", ""}


def _row(
    faults: Sequence[Fault],
    pages: Sequence[Page],
    times_s: tuple[float, float, float],
    normal_s: float,
    slowdown: float,
) -> list[str]:
    started_s, begun_s, ended_s = times_s
    ill = [page for page in pages if begun_s <= page.asked_s < ended_s]
    statuses = Counter(page.status for page in pages if page.status != 200)
    shown = [page.shows for page in ill if page.shows in {"new", "kept", "none"}]
    before = sum(page.asked_s < begun_s for page in pages) / (begun_s - started_s)
    slowest = (slowest_s(pages, what) * 1e3 for what in ("home page", "list"))
    return [
        _names(faults),
        f"{ended_s - begun_s:.0f}",
        f"{before:.0f}, {len(ill) / (ended_s - begun_s):.0f}",
        ", ".join(f"{ms:.0f} ms" for ms in slowest),
        ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) or "none",
        ", ".join(f"{shown.count(what) / max(1, len(shown)):.0%}" for what in ("new", "kept", "none")),
        f"{normal_s:.1f} s",
        f"{slowdown:.0f}x",
    ]


def _names(faults: Sequence[Fault]) -> str:
    return " + ".join(fault.name for fault in faults)


def _print_row(cells: Sequence[str]) -> None:
    print("|".join(("", *(f" {cell} " for cell in cells), "")), flush=True)
