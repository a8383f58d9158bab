from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import free_ports
from tests.e2e.run.running import RunningPair

VARIABLES = (
    "MARKETPLACE_PORT",
    "MARKETPLACE_METRICS_PORT",
    "RECOMMENDATIONS_PORT",
    "RECOMMENDATIONS_METRICS_PORT",
    "PROMETHEUS_PORT",
    "TRACES_PORT",
)


@pytest.fixture
def ports() -> dict[str, str]:
    """The variables of the pair's ports, each with a port on which nobody listens now."""
    return dict(zip(VARIABLES, map(str, free_ports(len(VARIABLES))), strict=True))


@pytest.fixture
def start(tmp_path: Path, ports: dict[str, str]) -> Iterator[Callable[..., RunningPair]]:
    """Starts the pair on free ports, with more variables and arguments; at the end nothing of it is left."""
    started: list[RunningPair] = []

    def start(*arguments: str, **variables: str) -> RunningPair:
        started.append(RunningPair(tmp_path, ports | variables, *arguments))
        return started[-1]

    yield start
    for pair in started:
        pair.kill_all()
