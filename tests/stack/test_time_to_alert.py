"""The table of how long a page about bad pages takes: it is the simulation's, and the real rules keep to it."""

from pathlib import Path

import pytest
import yaml

from grafana import simulation
from tests.e2e.processes import ROOT
from tests.stack.test_rules import promtool

STEP_S = 15
PAGES = 75  # in each step
TOLERANCE_S = 45  # the model's step, and that of the rules
NAMES = {"failed": "PagesAvailabilityBurn", "slow": "PagesLatencyBurn"}
SERIES = 'http_server_request_duration_seconds_{}{{job="marketplace", http_route="/", http_response_status_code="{}"{}}}'
CASES = [
    (kind, share, age_min)
    for kind in NAMES
    for share in (1, 0.5, 0.25, 0.1, 0.05)
    for age_min in (10, 60)
    if (kind, share) != ("slow", 0.05)
]


def test_the_table_is_in_the_docs() -> None:
    """docs/operations.md has the table that the limits of today give."""
    assert simulation.table() in (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("age_min", simulation.AGES_MIN.values())
def test_the_goals_are_kept(kind: str, age_min: float) -> None:
    """Total loss calls somebody in 2 minutes, 10 % in 10; silence comes within 10, however old the stack is."""
    for share, goal_min in ((1, 2), (0.1, 10)):
        found = simulation.times(kind, share, age_min)
        assert found is not None
        assert found[0] + 10 / 60 <= goal_min
        assert found[1] <= 10


@pytest.mark.parametrize(("kind", "share", "age_min"), CASES)
def test_the_rules_keep_to_it(kind: str, share: float, age_min: int, tmp_path: Path) -> None:
    """promtool, which evaluates alerts.yml, finds the page silent before its time, there after it, and over in time."""
    found = simulation.times(kind, share, age_min)
    assert found is not None
    begin_s, fires_s = age_min * 60, age_min * 60 + found[0] * 60
    end_s = fires_s + simulation.GOES_ON_MIN * 60
    silent_s = end_s + found[1] * 60
    steps = [begin_s // STEP_S, round(end_s - begin_s) // STEP_S, 60]
    case = {
        "rule_files": [str(ROOT / "alerts.yml")],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [
            {
                "interval": f"{STEP_S}s",
                "input_series": _series(kind, share, steps),
                "promql_expr_test": [
                    _fires(kind, fires_s - TOLERANCE_S, 0),
                    _fires(kind, fires_s + TOLERANCE_S, 1),
                    _fires(kind, end_s, 1),
                    _fires(kind, silent_s + TOLERANCE_S, 0),
                ],
            }
        ],
    }
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump(case))
    promtool("test", "rules", file)


def _fires(kind: str, time_s: float, count: int) -> dict[str, object]:
    """What is asked of Prometheus: whether the page fires then."""
    alert = f'count(ALERTS{{alertname="{NAMES[kind]}", severity="page", alertstate="firing"}}) or vector(0)'
    return {
        "expr": alert,
        "eval_time": f"{round(time_s)}s",
        "exp_samples": [{"labels": "{}", "value": count}],
    }


def _series(kind: str, share: float, steps: list[int]) -> list[dict[str, str]]:
    """Pages that are good, bad to a share, and good again, each for so many steps."""
    bad, good = _counter([0, share * PAGES, 0], steps), _counter([PAGES, (1 - share) * PAGES, PAGES], steps)
    if kind == "failed":
        return [
            {"series": SERIES.format("count", "200", ""), "values": good},
            {"series": SERIES.format("count", "500", ""), "values": bad},
        ]
    return [
        {"series": SERIES.format("count", "200", ""), "values": _counter([PAGES] * 3, steps)},
        {"series": SERIES.format("bucket", "200", ', le="0.3"'), "values": good},
    ]


def _counter(rates: list[float], steps: list[int]) -> str:
    """A counter that grows by each rate for as many steps, as promtool writes it."""
    parts, value = [], 0.0
    for rate, count in zip(rates, steps, strict=True):
        parts.append(f"{value + rate:g}+{rate:g}x{count - 1}")
        value += rate * count
    return " ".join(parts)
