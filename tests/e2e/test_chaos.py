"""A minute of faults at random, while people are in the shop: tests/chaos says which, and what holds."""

from pathlib import Path

import pytest

from tests.chaos.schedule import run

pytestmark = pytest.mark.full

SEEDS = [20261126]  # and those that have found something
SECONDS = 60.0


@pytest.mark.parametrize("seed", SEEDS)
def test_it_holds(seed: int, tmp_path: Path) -> None:
    """No answer but a page or a polite 503, sums that add up, bounded memory and threads, and well again soon."""
    assert run(tmp_path, seed, SECONDS) == []
