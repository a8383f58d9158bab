"""How fast the error budgets burn, and what is left of them: the objectives of alerts.yml, drawn."""

from grafana import colours
from grafana.board import Row
from grafana.panels import Query, graph

AVAILABILITY_BUDGET, LATENCY_BUDGET = "0.001", "0.05"
BURN = ((1, colours.WARN), (14.4, colours.BAD))


def objectives() -> Row:
    """The row of the home dashboard."""

    def burn(kind: str, budget: str) -> list[Query]:
        series = f"job:http_server_pages_{kind}:ratio_rate"
        return [
            Query(f'max({series}{window}{{job=~"$service"}}) / {budget}', window)
            for window in ("5m", "1h", "6h", "3d")
        ]

    def left(kind: str, budget: str) -> str:
        return f'1 - max(job:http_server_pages_{kind}:ratio_rate3d{{job=~"$service"}}) / {budget}'

    return "Objectives: how fast the error budget burns", [
        graph(
            "Burn: pages not answered",
            "How many times faster than the objective of 99.9 % allows pages fail, by window. Above 1 the "
            "budget does not last; 14.4 over 5m and 1h calls somebody: "
            "docs/runbooks/PagesAvailabilityBurn.md.",
            "none",
            *burn("failed", AVAILABILITY_BUDGET),
            shades=colours.WINDOWS,
            limits=BURN,
            top=2,
        ),
        graph(
            "Burn: pages over 300 ms",
            "How many times faster than the objective of 95 % allows pages are slow, by window. At most "
            "20; 14.4 over 5m and 1h calls somebody: docs/runbooks/PagesLatencyBurn.md.",
            "none",
            *burn("slow", LATENCY_BUDGET),
            shades=colours.WINDOWS,
            limits=BURN,
            top=2,
        ),
        graph(
            "Error budget left (3 days)",
            "What is left of the budgets of the last 3 days: 100 % is untouched, below 0 the objective is "
            "missed.",
            "percentunit",
            Query(left("failed", AVAILABILITY_BUDGET), "answered (99.9 %)"),
            Query(left("slow", LATENCY_BUDGET), "fast (95 % in 300 ms)"),
            shades=colours.OBJECTIVES,
            limits=[(0, colours.BAD)],
            top=1,
        ),
    ]
