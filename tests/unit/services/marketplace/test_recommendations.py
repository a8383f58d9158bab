"""The shop's client of recommendations, against a real server."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from observability.testing import MemoryTelemetry
from services.marketplace.config import Settings
from services.marketplace.recommendations import Recommendations, Unavailable
from services.recommendations.config import Settings as ServerSettings
from tests.unit.services.recommending import Running


@pytest.fixture
def server() -> Iterator[Running]:
    running = Running(ServerSettings(recommendations_port=0, drain_s=0))
    yield running
    running.close()


@contextmanager
def client(port: int, **settings: Any) -> Iterator[tuple[Recommendations, MemoryTelemetry]]:
    telemetry = MemoryTelemetry("marketplace")
    chosen = Settings(recommendations_host="127.0.0.1", recommendations_port=port, **settings)
    recommendations = Recommendations(chosen, telemetry)
    try:
        yield recommendations, telemetry
    finally:
        recommendations.close()
        telemetry.shutdown()


def outcome(recommendations: Recommendations, category: int = 0) -> str:
    """How many books there are, or why there are none."""
    try:
        return str(len(recommendations.recommend(category, 3)))
    except Unavailable as error:
        return error.reason


def test_retries_go_on_after_hundreds_of_failures(server: Running) -> None:
    """While one answer in ten is UNAVAILABLE, a page goes without recommendations once in a thousand."""
    server.switch.on("errors", "0.1", code="UNAVAILABLE")
    with client(server.port, recommendations_timeout_ms=10_000) as (recommendations, telemetry):
        assert outcome(recommendations) == "3"
        seen = Counter(outcome(recommendations) for _ in range(3000))
        refused = server.telemetry.value("grpc_server_handled_total", grpc_code="UNAVAILABLE")
        assert refused > 200
        assert seen["UNAVAILABLE"] < 30
        assert seen["UNAVAILABLE"] + seen["3"] == 3000
        assert telemetry.value("grpc_client_handled_total", grpc_code="OK") == seen["3"] + 1


@pytest.mark.parametrize(("code", "tries"), [("UNAVAILABLE", 3), ("INTERNAL", 1), ("RESOURCE_EXHAUSTED", 1)])
def test_what_is_tried_again(server: Running, code: str, tries: int) -> None:
    """UNAVAILABLE alone, and at most twice."""
    server.switch.on("errors", "1", code=code)
    with client(server.port, recommendations_timeout_ms=10_000) as (recommendations, _):
        assert outcome(recommendations) == code
        assert server.telemetry.value("grpc_server_handled_total", grpc_code=code) == tries
