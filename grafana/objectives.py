"""How fast the error budgets burn, and what is left of them: the objectives of slo.py, drawn."""

from grafana import colours
from grafana.board import Row
from grafana.panels import Query, graph
from grafana.slo import BUDGETS, SUDDEN

SHARE = SUDDEN[-1].share
CALLS = f"{SHARE:.1%} of the pages over {SUDDEN[-1].long} call somebody"


def _limits(kind: str) -> tuple[tuple[float, str], ...]:
    return (1, colours.WARN), (SHARE / BUDGETS[kind], colours.BAD)


def objectives() -> Row:
    """The row of the home dashboard."""

    def burn(kind: str) -> list[Query]:
        series = f"job:http_server_pages_{kind}:ratio_rate"
        return [
            Query(f'max({series}{window}{{job=~"$service"}}) / {BUDGETS[kind]}', window)
            for window in ("3m", "1h", "6h", "3d")
        ]

    def left(kind: str) -> str:
        return f'1 - max(job:http_server_pages_{kind}:ratio_rate3d{{job=~"$service"}}) / {BUDGETS[kind]}'

    return "Objectives: how fast the error budget burns", [
        graph(
            "Burn: pages not answered",
            "How many times faster pages fail than the objective of 99.9 % allows, by window. Above 1 the "
            f"budget does not last; {CALLS}: docs/runbooks/PagesAvailabilityBurn.md.",
            "none",
            *burn("failed"),
            shades=colours.WINDOWS,
            limits=_limits("failed"),
            top=2,
        ),
        graph(
            "Burn: pages over 300 ms",
            "How many times more pages are slow than the objective of 95 % allows, by window. At most "
            f"20; {CALLS}: docs/runbooks/PagesLatencyBurn.md.",
            "none",
            *burn("slow"),
            shades=colours.WINDOWS,
            limits=_limits("slow"),
            top=2,
        ),
        graph(
            "Error budget left (3 days)",
            "What is left of the budgets of the last 3 days: 100 % is untouched. Below 0 the objective is "
            "missed: no release that may cost pages; docs/runbooks/PagesAvailabilityBurn.md, "
            "docs/runbooks/PagesLatencyBurn.md.",
            "percentunit",
            Query(left("failed"), "answered (99.9 %)"),
            Query(left("slow"), "fast (95 % in 300 ms)"),
            shades=colours.OBJECTIVES,
            limits=[(0, colours.BAD)],
            top=1,
        ),
    ]
