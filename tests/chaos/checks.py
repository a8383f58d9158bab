"""What holds after each fault, whatever it was."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from observability.testing import eventually
from tests.chaos.faults import Fault
from tests.chaos.town import Town
from tests.crowd import Page
from tests.e2e.test_holding_out import NAMES, status_of

BUDGET_S = 0.5  # RECOMMENDATIONS_TIMEOUT_MS, the wait for a thread included
LIST_S = 0.5 + 0.5  # MARKETPLACE_WAIT_MS, then DATABASE_TIMEOUT_MS
LATE_S = 0.2
PAGE_CPU_S = 0.05  # that a page may need, in the shop, in recommendations and here, with those before it
GROWTH_MIB = 48  # what the alert MemoryGrowth allows
MOST_THREADS = {"marketplace": 60, "recommendations": 120}
SOON_S = 10.0
PAGES = 100
RECOMMEND = 'grpc_method="Recommend"'
CALLS = ("calls", "calls served", "lines of calls", "lines of calls served", "recommendations' spans")
ROUTES = r"/|/books[^\"]*"


def sum_of(metrics: str, name: str, labels: str = "") -> float:
    """The sum of a metric's series that have the labels (a regular expression)."""
    return sum(
        float(value)
        for found, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", metrics, re.MULTILINE)
        if re.search(labels, found)
    )


class Sums:
    """What both services have counted when nobody is in the shop."""

    def __init__(self, town: Town) -> None:
        self.shop, self.recommendations = (town.pair.scrape(name) for name in NAMES)
        self.pages = sum_of(
            self.shop, "http_server_request_duration_seconds_count", rf'http_route="({ROUTES})"'
        )
        self.pages += sum_of(self.shop, "marketplace_requests_refused_total", "queue_full|waited")

    def calls_add_up(self) -> bool:
        """Whether each call that was begun has ended, or is in flight."""
        return all(
            sum_of(metrics, f"grpc_{side}_started_total")
            == sum_of(metrics, f"grpc_{side}_handled_total") + sum_of(metrics, f"grpc_{side}_in_flight")
            for side, metrics in (("client", self.shop), ("server", self.recommendations))
        )

    def is_quiet(self) -> bool:
        """Whether no page is under way, and no call of one."""
        return (
            sum_of(self.shop, "http_server_active_requests")
            == 0
            == sum_of(self.shop, "grpc_client_in_flight")
        )

    def calls_are_pages(self) -> bool:
        """Whether each page that asked for recommendations had an answer, or a reason to go without."""
        answered = sum_of(self.shop, "grpc_client_handled_total", '"(OK|NOT_FOUND)"')
        degraded = sum_of(self.shop, "marketplace_recommendations_degraded_total")
        return sum_of(self.shop, "marketplace_recommendations_asked_total") == answered + degraded


def problems(
    town: Town, faults: Sequence[Fault], pages: Sequence[Page], before: Sums, slowdown: float
) -> Iterator[str]:
    """All that does not hold, in words."""
    yield from _answers(town, faults, pages)
    if not any(fault.closes for fault in faults):  # while the shop starts, people wait for it to accept them
        yield from _times(pages, slowdown)
    if not comes_true(lambda: Sums(town).is_quiet()):
        yield "calls or pages are in flight for ever"
    sums = Sums(town)
    if not sums.calls_add_up():
        yield "calls that were started are neither handled nor in flight"
    if not sums.calls_are_pages():
        yield "pages that asked for recommendations are not answered or degraded"
    if all(fault.counts for fault in faults):
        answered = sum(page.status > 0 for page in pages)
        if not answered <= sums.pages - before.pages <= len(pages):
            yield f"people had {answered} answers to {len(pages)} pages, the shop counts {sums.pages - before.pages}"
    if not any(fault.writes_fail for fault in faults):
        for name, metrics in zip(NAMES, (sums.shop, sums.recommendations), strict=True):
            if failures := sum_of(metrics, "telemetry_signal_failures_total"):
                yield f"{failures} signals of {name} failed"
    yield from _processes(town)


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does, soon."""
    with suppress(AssertionError):
        return eventually(condition, SOON_S)
    return False


def adds_up(town: Town) -> Iterator[str]:
    """With nothing ill: each page and each call is one of the counter, of the log and of the spans, on either side.

    On a busy machine, a page may go without a call.
    """
    _settle(town)
    before = _counted(town)
    for _ in range(PAGES):
        town.pair.get("/")
    expected = Counter({"pages": PAGES, "lines of pages": PAGES})

    def is_so() -> bool:
        grown = _counted(town) - before
        calls = grown["calls"]
        of_calls = Counter(dict.fromkeys(CALLS, calls), **{"the shop's spans": PAGES + calls})
        return 0 < calls <= PAGES and grown == expected + of_calls

    if not comes_true(is_so):
        yield f"{PAGES} pages are {_counted(town) - before}"


def _counted(town: Town) -> Counter[str]:
    sums = Sums(town)
    lines = sum((log.events for log in town.logs.values()), Counter())
    return Counter(
        {
            "pages": round(sums.pages),
            "lines of pages": lines["http.server.request"],
            "calls": round(sum_of(sums.shop, "grpc_client_handled_total", RECOMMEND)),
            "calls served": round(sum_of(sums.recommendations, "grpc_server_handled_total", RECOMMEND)),
            "lines of calls": lines["grpc.client.call"],
            "lines of calls served": lines["grpc.server.call"],
            "the shop's spans": town.spans["marketplace"],
            "recommendations' spans": town.spans["recommendations"],
        }
    )


def _settle(town: Town) -> None:
    """Wait for what is still on its way to the collector."""
    spans = None
    while spans != town.spans:
        spans = town.spans.copy()
        time.sleep(1)


def _answers(town: Town, faults: Sequence[Fault], pages: Sequence[Page]) -> Iterator[str]:
    for status in sorted({page.status for page in pages} - {0, 200, 503}):
        yield f"a page was answered with {status}"
    unanswered = [page for page in pages if page.status == 0]
    closed = [page for page in unanswered if page.shows == "closed"]
    if closed and not any(fault.closes for fault in faults):
        yield f"nobody listened for {len(closed)} pages"
    if len(closed) < len(unanswered) and not (town.was_late or any(fault.breaks for fault in faults)):
        yield f"{len(unanswered) - len(closed)} pages broke off"


def _times(pages: Sequence[Page], slowdown: float) -> Iterator[str]:
    for what, limit_s in (("home page", BUDGET_S), ("list", LIST_S)):
        took_s = slowest_s(pages, what)
        if took_s > limit_s + LATE_S + PAGE_CPU_S * slowdown:
            yield f"a {what} took {took_s * 1e3:.0f} ms, on a machine that was {slowdown:.0f} times slower than alone"


def slowest_s(pages: Sequence[Page], what: str) -> float:
    """The longest of the home pages or of the lists that were answered."""
    is_list = what == "list"
    return max(
        (page.took_s for page in pages if page.status and page.path.startswith("/books") == is_list),
        default=0,
    )


def _processes(town: Town) -> Iterator[str]:
    for name in NAMES:
        process = town.process(name)
        if (threads := status_of(process, "Threads")) > MOST_THREADS[name]:
            yield f"{name} has {threads} threads"
        if (grown := town.memory_of(name) - town.memory_mib[name]) > GROWTH_MIB:
            yield f"{name} has grown by {grown:.0f} MiB"
        if "Traceback" in (said := getattr(town.pair, name).errors.read_text()):
            yield f"{name} says: {said[-2000:]}"
        if broken := town.logs[name].broken:
            yield f"{name} has broken lines: {broken[:3]}"
