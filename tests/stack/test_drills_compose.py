"""Drills in containers and in real time: what test_drills.py shows of all of them in time-lapse holds in earnest."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from observability.testing import eventually
from tests.stack.engine import Stack, needs_engine

# One of each service, as a heal ends all faults of its service, and two that a busy machine does not disturb.
DRILLS = ("errors", "page-errors")
PATIENCE_S = 360  # for the alert to fire, and again for it to be silent


@pytest.fixture
def stack() -> Iterator[Stack]:
    running = Stack(FAULTS="1")
    try:
        running.compose("build", "marketplace", "recommendations", "load", "entry", timeout_s=600)
        running.up()
        yield running
    finally:
        running.close()


@needs_engine
def test_drills_pass_in_earnest(stack: Stack) -> None:
    """In the containers each alert fires and its panel rises; healed, it is silent again, and the page is well."""
    eventually(lambda: stack.query("job:http_server_pages:rate1m > 1"), 120)
    with ThreadPoolExecutor(len(DRILLS)) as pool:
        done = list(
            pool.map(lambda name: stack.tool("tools.drill", name, f"--patience={PATIENCE_S}"), DRILLS)
        )
    assert [one.returncode for one in done] == [0, 0], [one.stdout + one.stderr for one in done]
    assert all("/trace/" in one.stdout for one in done)
