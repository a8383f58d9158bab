"""What dashboards and alerts share: which requests are pages, what is promised, and when it is broken.

The objectives: of the pages of 30 days, 99.9 % are no 5xx and 95 % come within 300 ms. Burn rate 1 uses up
just that. The windows and burn rates are those of https://sre.google/workbook/alerting-on-slos/.
"""

from typing import NamedTuple

# Pages are what a reader asks for: not health checks, metrics, static files or addresses that do not exist.
PAGES = 'http_route!~"/(livez|readyz|metrics|static/.*)|_OTHER"'
SLOW_S = 0.3
BUDGETS = {"failed": 0.001, "slow": 0.05}
SHORT_WINDOWS = ("5m", "30m", "1h")
LONG_WINDOWS = ("2h", "6h", "1d", "3d")
# The statuses that are the server's fault; health checks and reflection are nobody's work.
FAULTS = 'grpc_code=~"UNKNOWN|INTERNAL|UNAVAILABLE|DATA_LOSS|UNIMPLEMENTED|DEADLINE_EXCEEDED"'
WORK = 'grpc_service!~"grpc[.].*"'
MIN_RATE = 0.1  # the lowest traffic, per second, for which a ratio means something


class Burn(NamedTuple):
    """A budget burns at more than this rate, both in the short window and in the long one."""

    rate: float
    short: str
    long: str


BURNS = {
    "page": (Burn(14.4, "5m", "1h"), Burn(6, "30m", "6h")),
    "ticket": (Burn(3, "2h", "1d"), Burn(1, "6h", "3d")),
}


def burning(kind: str, severity: str) -> str:
    """The expression that is true while pages of the kind, "failed" or "slow", use up the budget too fast."""

    def burns(burn: Burn) -> str:
        ratio, limit = f"job:http_server_pages_{kind}:ratio_rate", f"{burn.rate:g} * {BUDGETS[kind]}"
        return (
            f"({ratio}{burn.short} > {limit} and {ratio}{burn.long} > {limit}"
            f" and job:http_server_pages:rate{burn.short} > {MIN_RATE})"
        )

    return " or ".join(map(burns, BURNS[severity]))
