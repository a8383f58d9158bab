"""What dashboards and alerts share: which requests are pages, what is promised, and when it is broken.

The objectives: of the pages of 30 days, 99.9 % are no 5xx and 95 % come within 300 ms. Burn rate 1 uses up
just that. Burn rates over hours and days are those of https://sre.google/workbook/alerting-on-slos/.
"""

from typing import NamedTuple

# Pages are what a reader asks for: not health checks, metrics, static files or addresses that do not exist.
PAGES = 'http_route!~"/(livez|readyz|metrics|static/.*)|_OTHER"'
SLOW_S = 0.3
BUDGETS = {"failed": 0.001, "slow": 0.05}
SHORT_WINDOWS = ("2m", "3m", "10m", "1h")
LONG_WINDOWS = ("2h", "6h", "1d", "3d")
# The statuses that are the server's fault; health checks and reflection are nobody's work.
FAULTS = 'grpc_code=~"UNKNOWN|INTERNAL|UNAVAILABLE|DATA_LOSS|UNIMPLEMENTED|DEADLINE_EXCEEDED"'
WORK = 'grpc_service!~"grpc[.].*"'
MIN_RATE = 0.1  # the lowest traffic, per second, for which a ratio means something


class Limit(NamedTuple):
    """More than this share of the pages is bad, both in the short window and in the long one.

    The long window says that it matters, the short one that it goes on: with its end, the alert ends.
    """

    share: float
    short: str
    long: str


def burn(kind: str, rate: float, short: str, long: str) -> Limit:
    """The limit at which a budget is used up this many times too fast."""
    return Limit(round(rate * BUDGETS[kind], 4), short, long)


# When a lot is wrong somebody is called in minutes, whatever came before: burn rates over hours
# take long, and for a budget of 5 % for ever. How long each takes is a table in docs/operations.md.
SUDDEN = (Limit(0.25, "2m", "2m"), Limit(0.075, "2m", "10m"))
LIMITS = {
    ("failed", "page"): (*SUDDEN, burn("failed", 14.4, "3m", "1h"), burn("failed", 6, "3m", "6h")),
    ("slow", "page"): SUDDEN,
    ("failed", "ticket"): (burn("failed", 3, "2h", "1d"), burn("failed", 1, "6h", "3d")),
    ("slow", "ticket"): (burn("slow", 3, "2h", "1d"), burn("slow", 1, "6h", "3d")),
}
HOLD = "1m"  # how long a page must hold, so that a few slow ones at a start call nobody


def burning(kind: str, severity: str) -> str:
    """The expression that is true while too many pages are of the kind, "failed" or "slow"."""
    ratio, pages = f"job:http_server_pages_{kind}:ratio_rate", "job:http_server_pages:rate"

    def exceeds(limit: Limit) -> str:
        windows = dict.fromkeys((limit.short, limit.long))
        bad = " and ".join(f"{ratio}{window} > {limit.share:g}" for window in windows)
        return f"({bad} and {pages}{limit.short} > {MIN_RATE})"

    return " or ".join(map(exceeds, LIMITS[kind, severity]))
