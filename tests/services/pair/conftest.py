import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.pair.running import RunningPair

VARIABLES = (
    "MARKETPLACE_PORT",
    "MARKETPLACE_METRICS_PORT",
    "RECOMMENDATIONS_PORT",
    "RECOMMENDATIONS_METRICS_PORT",
    "PROMETHEUS_PORT",
)


@pytest.fixture
def ports() -> dict[str, str]:
    """The variables of the pair's ports, each with a port on which nobody listens now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in VARIABLES]
        return {name: str(probe.getsockname()[1]) for name, probe in zip(VARIABLES, probes, strict=True)}


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
