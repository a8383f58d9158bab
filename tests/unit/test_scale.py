"""The figures of docs/scale.md that this repository makes."""

from pathlib import Path

from benchmarks.storm import PLANS, simulate, tables

DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_tables_of_retries_are_the_simulations() -> None:
    """What the document shows is what `python -m benchmarks.storm` prints, with the shop's own policy."""
    assert tables() in DOCUMENT.read_text()


def test_the_budget_ends_a_storm() -> None:
    """Beyond the capacity, retries without a budget answer fewer calls than none; with it, nearly as many."""
    (none, _), (free, many), (budgeted, few) = (simulate(plan, 1.2) for plan in PLANS)
    assert free < 0.7 * none
    assert budgeted > 0.9 * none
    assert few < many
