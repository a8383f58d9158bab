"""The shop's client of recommendations, against a real server."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from observability.testing import MemoryTelemetry, eventually
from services.marketplace.config import Settings
from services.marketplace.recommendations import Recommendations, Unavailable
from services.marketplace.recommendations.circuit import FAILURES
from services.recommendations.config import Settings as ServerSettings
from tests.relay import Relay
from tests.unit.services.recommending import Running

WITHIN_S = 60.0
PREFIX = "marketplace_recommendations"


@pytest.fixture
def server() -> Iterator[Running]:
    running = Running(ServerSettings(recommendations_port=0, drain_s=0))
    yield running
    running.close()


@contextmanager
def client(port: int, **settings: Any) -> Iterator[tuple[Recommendations, MemoryTelemetry]]:
    telemetry = MemoryTelemetry("marketplace")
    patient = {"recommendations_timeout_ms": 10_000}
    chosen = Settings(recommendations_host="127.0.0.1", recommendations_port=port, **patient | settings)
    recommendations = Recommendations(chosen, telemetry)
    try:
        yield recommendations, telemetry
    finally:
        recommendations.close()
        telemetry.shutdown()


def outcome(recommendations: Recommendations, within_s: float = WITHIN_S) -> str:
    """How many books there are, or why there are none."""
    try:
        return str(len(recommendations.recommend(0, 3, within_s)))
    except Unavailable as error:
        return error.reason


@pytest.mark.full
def test_retries_go_on_after_hundreds_of_failures(server: Running) -> None:
    """While one answer in ten is UNAVAILABLE, a page goes without recommendations once in a thousand."""
    server.switch.on("errors", "0.1", code="UNAVAILABLE")
    with client(server.port) as (recommendations, telemetry):
        seen = Counter(outcome(recommendations) for _ in range(3000))
        refused = server.telemetry.value("grpc_server_handled_total", grpc_code="UNAVAILABLE")
        assert refused > 200
        assert seen["UNAVAILABLE"] < 30
        assert seen["UNAVAILABLE"] + seen["3"] == 3000
        assert telemetry.value("grpc_client_handled_total", grpc_code="OK") == seen["3"]


def test_a_service_that_is_far_away(server: Running) -> None:
    """The first call waits for a connection that takes a fifth of a second to be made."""
    relay = Relay(("127.0.0.1", 0), ("127.0.0.1", server.port))
    relay.delay_s = 0.2
    try:
        with client(relay.port) as (recommendations, telemetry):
            assert outcome(recommendations) == "3"
            assert telemetry.value("grpc_client_handled_total", grpc_code="OK") == 1
    finally:
        relay.close()


@pytest.mark.parametrize(("code", "tries"), [("UNAVAILABLE", 3), ("INTERNAL", 1), ("RESOURCE_EXHAUSTED", 1)])
def test_what_is_tried_again(server: Running, code: str, tries: int) -> None:
    """UNAVAILABLE alone, and at most twice."""
    server.switch.on("errors", "1", code=code)
    with client(server.port) as (recommendations, _):
        assert outcome(recommendations) == code
        eventually(lambda: server.telemetry.value("grpc_server_handled_total", grpc_code=code) == tries)


def test_the_circuit_opens_and_closes(server: Running) -> None:
    """Calls that fail open it: no more are made; healed, probes close it. Metrics and a line say so."""
    server.switch.on("errors", "1")
    with client(server.port) as (recommendations, telemetry):
        assert [outcome(recommendations) for _ in range(FAILURES)] == ["INTERNAL"] * FAILURES
        assert outcome(recommendations) == "CIRCUIT_OPEN"
        assert telemetry.value(f"{PREFIX}_circuit_open") == 1
        eventually(
            lambda: server.telemetry.value("grpc_server_handled_total", grpc_code="INTERNAL") == FAILURES
        )
        server.switch.heal()
        eventually(lambda: outcome(recommendations) == "3" and not telemetry.value(f"{PREFIX}_circuit_open"))
        for state in ("open", "closed"):
            assert telemetry.value(f"{PREFIX}_circuit_changes_total", state=state) == 1
        degraded = telemetry.value(f"{PREFIX}_degraded_total", reason="CIRCUIT_OPEN")
        asked = telemetry.value(f"{PREFIX}_asked_total")
        assert asked == telemetry.value("grpc_client_handled_total") + degraded


def test_a_slow_service_holds_some_threads(server: Running) -> None:
    """Of four threads three wait for it at once; whoever comes then goes on without recommendations."""
    server.switch.on("slow", "1", "3000")
    with (
        client(server.port, marketplace_threads=4) as (recommendations, telemetry),
        ThreadPoolExecutor(3) as threads,
    ):
        waiting = [threads.submit(outcome, recommendations) for _ in range(3)]
        eventually(lambda: telemetry.value("grpc_client_in_flight") == 3)
        assert outcome(recommendations) == "TOO_MANY_CALLS"
        assert [each.result() for each in waiting] == ["3", "3", "3"]


@pytest.mark.parametrize(
    ("within_s", "reason"), [(0.2, "DEADLINE_EXCEEDED"), (0.04, "NO_TIME"), (-1, "NO_TIME")]
)
def test_a_call_gets_what_is_left(server: Running, within_s: float, reason: str) -> None:
    """The deadline is the page's, if that is earlier; with too little time left there is no call."""
    server.switch.on("slow", "1", "300")
    with client(server.port, recommendations_timeout_ms=500) as (recommendations, telemetry):
        assert outcome(recommendations, within_s=within_s) == reason
        assert telemetry.value("grpc_client_started_total") == (reason != "NO_TIME")
        assert telemetry.value(f"{PREFIX}_degraded_total", reason=reason) == 1


@pytest.mark.parametrize("keep_s", [60, 0])
def test_the_last_good_answer_is_kept(server: Running, keep_s: float) -> None:
    """When there is no new one it comes with the reason: that of the category, and none when it is off."""
    with client(server.port, recommendations_keep_s=keep_s) as (recommendations, telemetry):
        good = recommendations.recommend(1, 3, WITHIN_S)
        server.switch.on("errors", "1")
        for category, kept in ((1, good if keep_s else []), (2, [])):
            with pytest.raises(Unavailable) as raised:
                recommendations.recommend(category, 3, WITHIN_S)
            assert raised.value.kept == kept
        assert telemetry.value(f"{PREFIX}_kept_total") == bool(keep_s)
