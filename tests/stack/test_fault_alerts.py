"""How long each alert of the table of faults takes: promtool, which evaluates alerts.yml, says so."""

from pathlib import Path

import pytest
import yaml

from tests.e2e.processes import ROOT
from tests.stack.test_rules import promtool

STEP_S = 5  # between two scrapes, and between two evaluations: prometheus.yml
BEFORE = 120  # steps without the fault
DURING = 60
TOLERANCE_S = 10  # a scrape and an evaluation
SHOP = 'job="marketplace", instance="m:9101"'

Series = dict[str, str]


def grows(rate: float) -> str:
    """A counter that grows by so much at each scrape."""
    return f"0+{rate}x{BEFORE + DURING}"


def begins(rate: float) -> str:
    """A counter that grows from the fault on."""
    return f"0x{BEFORE - 1} {rate}+{rate}x{DURING}"


def becomes(before: int, during: int) -> str:
    """A value that is another one from the fault on."""
    return f"{before}x{BEFORE - 1} {during}x{DURING}"


def degraded(share: float) -> Series:
    return {
        f'marketplace_recommendations_degraded_total{{{SHOP}, reason="UNAVAILABLE"}}': begins(25 * share),
        f"marketplace_recommendations_asked_total{{{SHOP}}}": grows(25),
    }


def refused(share: float) -> Series:
    return {
        f'marketplace_requests_refused_total{{{SHOP}, reason="queue_full"}}': begins(1000 * share),
        f'http_server_request_duration_seconds_count{{{SHOP}, http_route="/", http_response_status_code="200"}}': grows(
            1000 * (1 - share)
        ),
    }


RECOMMENDATIONS = 'up{job="recommendations", instance="r:9102"}'
OTHER = 'up{job="recommendations", instance="s:9102"}'
UP = {f"up{{{SHOP}}}": becomes(1, 1)}
CASES: list[tuple[str, str, Series, str]] = [
    ("RecommendationsDegraded", "page", degraded(1), "1.1 min"),
    ("RecommendationsDegraded", "page", degraded(0.75), "1.1 min"),
    (
        "RecommendationsCircuitOpen",
        "ticket",
        {f"marketplace_recommendations_circuit_open{{{SHOP}}}": becomes(0, 1)},
        "1.0 min",
    ),
    ("ServiceDown", "page", UP | {RECOMMENDATIONS: becomes(1, 0)}, "0.5 min"),
    ("InstanceDown", "ticket", UP | {RECOMMENDATIONS: becomes(1, 0), OTHER: becomes(1, 1)}, "1.0 min"),
    ("DatabaseDown", "page", {f"marketplace_database_up{{{SHOP}}}": becomes(1, 0)}, "0.9 min"),
    ("RequestsRefused", "page", refused(0.6), "1.0 min"),
    (
        "ExporterFailing",
        "ticket",
        {
            f'telemetry_spans_dropped_total{{{SHOP}, reason="export_failed"}}': begins(50),
            f'telemetry_spans_dropped_total{{{SHOP}, reason="queue_full"}}': becomes(0, 0),
            f"telemetry_spans_exported_total{{{SHOP}}}": becomes(1000, 1000),
        },
        "1.1 min",
    ),
    (
        "SignalFailing",
        "ticket",
        {f'telemetry_signal_failures_total{{{SHOP}, signal="logs"}}': begins(1)},
        "at once",
    ),
    ("ServiceRestarted", "ticket", {f"process_start_time_seconds{{{SHOP}}}": becomes(100, 700)}, "at once"),
]


@pytest.mark.parametrize(("alert", "severity", "series", "after"), CASES)
def test_it_calls_when_the_table_says(
    alert: str, severity: str, series: Series, after: str, tmp_path: Path
) -> None:
    """It is silent a scrape and an evaluation before the time in docs/operations.md, and there as much after it."""
    assert f"{alert} {after}" in (ROOT / "docs" / "operations.md").read_text()
    minutes = 0.0 if after == "at once" else float(after.removesuffix(" min"))
    due_s = BEFORE * STEP_S + minutes * 60
    firing = f'count(ALERTS{{alertname="{alert}", severity="{severity}", alertstate="firing"}}) or vector(0)'
    case = {
        "rule_files": [str(ROOT / "alerts.yml")],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [
            {
                "interval": f"{STEP_S}s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": firing,
                        "eval_time": f"{round(due_s + sign * TOLERANCE_S)}s",
                        "exp_samples": [{"labels": "{}", "value": count}],
                    }
                    for sign, count in ((-1, 0), (1, 1))
                ],
            }
        ],
    }
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump(case))
    promtool("test", "rules", file)
