"""The figures of docs/scale.md that this repository makes."""

import re
from pathlib import Path

import pytest

from benchmarks.storm import PLANS, simulate, tables

DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"
COST = DOCUMENT.with_name("cost.md")
A_FIFTH = 0.2  # from one run of `make bench` to the next


def test_the_tables_of_retries_are_the_simulations() -> None:
    """What the document shows is what `python -m benchmarks.storm` prints, with the shop's own policy."""
    assert tables() in DOCUMENT.read_text()


def test_the_budget_ends_a_storm() -> None:
    """Beyond the capacity, retries without a budget answer fewer calls than none; with it, nearly as many."""
    (none, _), (free, many), (budgeted, few) = (simulate(plan, 1.2) for plan in PLANS)
    assert free < 0.7 * none
    assert budgeted > 0.9 * none
    assert few < many


@pytest.mark.parametrize(
    ("row", "measured"),
    [
        (r"\| CPU of the shop \| (\d+) us", r"calls recommendations: (\d+) us with telemetry"),
        (r"\| CPU of recommendations \| (\d+) us", r"\| shipped observed \| (\d+) \| \d+ to"),
    ],
)
def test_a_page_costs_what_is_measured(row: str, measured: str) -> None:
    """What all else is calculated from is what `make bench` last found, give or take a fifth."""
    (assumed,), (found,) = re.findall(row, DOCUMENT.read_text()), re.findall(measured, COST.read_text())
    assert float(assumed) == pytest.approx(float(found), rel=A_FIFTH)
