"""The colours of the dashboards: Okabe and Ito's, which colour-blind people can distinguish, too.

Palette: https://jfly.uni-koeln.de/color/
Each table gives series a colour by how their legend begins, as a regular expression.
"""

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
PALETTE = frozenset({ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE, GREY})

GOOD, WARN, BAD = SKY, ORANGE, RED

CODES = {
    "OK$": SKY,
    "NOT_FOUND": ORANGE,
    "INVALID_ARGUMENT": YELLOW,
    "CANCELLED": GREEN,
    "DEADLINE_EXCEEDED": PURPLE,
    "UNAVAILABLE": RED,
    "CIRCUIT_OPEN": ORANGE,
    "UNKNOWN|INTERNAL|DATA_LOSS": BLUE,
    "[A-Z]": GREY,
}
STATUSES = {"[123]": SKY, "4": ORANGE, "5": RED}
QUANTILES = {"p50": SKY, "p95": ORANGE, "p99": PURPLE}
SERVICES = {"marketplace": SKY, "recommendations": ORANGE, "": GREY}
ROUTES = {"/$": SKY, "/books$": ORANGE, "/books/": PURPLE, "": GREY}
METHODS = {"Recommend": SKY, "Check|Watch": GREEN, "": GREY}
WINDOWS = {"3m": YELLOW, "1h": ORANGE, "6h": PURPLE, "3d": SKY}
OBJECTIVES = {"answered": SKY, "fast": ORANGE}
REASONS = {"queue_full": ORANGE, "export_failed|write_failed": RED, "shutdown": GREY}
QUEUES = {"records": SKY, "lines": ORANGE, "exported": PURPLE}
MESSAGES = {"sent": SKY, "received": ORANGE}
DOOR = {"connections": SKY, "waiting": RED}
REFUSALS = {"queue_full": RED, "waited": ORANGE, "": GREY}
DATABASE = {"database": SKY, "feed": GREEN, "pages": RED}
CIRCUIT = {"kept": SKY, "circuit open": RED, "circuit closed": GREEN}
PARTS = {
    "jaeger": SKY, "prometheus": ORANGE, "logs": GREEN, "alertmanager": PURPLE, "grafana": BLUE,
    "entry": GREY,
}  # fmt: skip
STORES = {"samples": ORANGE, "log lines": GREEN}
SIGNALS = {"tracing": SKY, "metrics": ORANGE, "logs": PURPLE, "": GREY}


def pattern(start: str) -> str:
    """The start of a legend as Grafana writes a regular expression."""
    escaped = start.replace("/", r"\/")
    return f"/^({escaped})/"
