"""How long a page about bad pages takes to come, and to be silent again: the limits of slo.py, played.

The share of pages that are bad jumps from 0 to a value, and back to 0 some minutes after the page. A window
sees what has been since the stack began, at most its length.
"""

from collections.abc import Iterator

from grafana.slo import HOLD, LIMITS

STEP_MIN = 0.25
LONGEST_MIN = 12 * 60
GOES_ON_MIN = 5  # from the page to the end of what is wrong
SHARES = (1, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
AGES_MIN = {"10 minutes": 10, "a day": 24 * 60}
UNITS_MIN = {"m": 1, "h": 60, "d": 24 * 60}


def minutes(duration: str) -> int:
    """A duration of Prometheus, of one unit, in minutes."""
    return int(duration[:-1]) * UNITS_MIN[duration[-1]]


def times(kind: str, share: float, age_min: float) -> tuple[float, float] | None:
    """Minutes from the start of the fault to the page, and from its end to silence; None: no page."""
    held, now = 0.0, 0.0
    while held < minutes(HOLD):
        now += STEP_MIN
        held = held + STEP_MIN if _exceeds(kind, share, age_min, now, now) else 0
        if now > LONGEST_MIN:
            return None
    end = now + GOES_ON_MIN
    silent = end
    while _exceeds(kind, share, age_min, silent, end):
        silent += STEP_MIN
    return now, silent - end


def _exceeds(kind: str, share: float, age_min: float, now: float, end: float) -> bool:
    """Whether one of the limits is exceeded; the fault began at 0, the stack age_min minutes before."""

    def seen(duration: str) -> float:
        window = minutes(duration)
        bad = max(min(now, end) - max(now - window, 0), 0)
        return share * bad / min(window, age_min + now)

    return any(min(seen(limit.short), seen(limit.long)) > limit.share for limit in LIMITS[kind, "page"])


def table() -> str:
    """The table of docs/operations.md."""
    return "\n".join(_rows()) + "\n"


def _rows() -> Iterator[str]:
    columns = ["Bad pages", "Age of the stack"]
    columns += ["Failed: page after", "silent after", "Slow: page after", "silent after"]
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for share in SHARES:
        for age, age_min in AGES_MIN.items():
            cells = [cell for kind in ("failed", "slow") for cell in _cells(times(kind, share, age_min))]
            yield f"| {share:.0%} | {age} | {' | '.join(cells)} |"


def _cells(found: tuple[float, float] | None) -> tuple[str, str]:
    return (_said(found[0]), _said(found[1])) if found else ("none", "")


def _said(time_min: float) -> str:
    return f"{time_min:.1f} min" if time_min < 2 * 60 else f"{time_min / 60:.1f} h"
