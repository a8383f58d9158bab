"""Calls that wait for a thread: work that nobody waits for any more is not begun."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import grpc
import pytest

from observability.testing import eventually
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.recommendations import server as module
from services.recommendations.config import Settings
from tests.unit.services.recommending import Running

REQUEST = RecommendationRequest(max_results=2)


class Held:
    """A server whose two threads are held by a call each, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self._begun, self._go_on = threading.Semaphore(0), threading.Event()
        monkeypatch.setattr(module, "MOST_THREADS", 2)
        monkeypatch.setattr("services.recommendations.faults.time", SimpleNamespace(sleep=self._hold))
        self.running = Running(Settings(recommendations_port=0, drain_s=0))
        self.running.switch.on("slow", "1", "400")
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.running.port}")
        self.stub = RecommendationsStub(self._channel)
        self._calls = [self.stub.Recommend.future(REQUEST, timeout=60) for _ in range(2)]
        for _ in self._calls:
            assert self._begun.acquire(timeout=30)

    def go_on(self) -> None:
        """Let both calls end, and the next ones be served at once."""
        self._go_on.set()
        assert {len(call.result().recommendations) for call in self._calls} == {2}

    def close(self) -> None:
        self._go_on.set()
        self._channel.close()
        self.running.close()

    def _hold(self, _: float) -> None:
        self.begun += 1
        self._begun.release()
        self._go_on.wait(60)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.close()


def test_a_call_whose_deadline_passed_in_the_queue_is_not_begun(held: Held) -> None:
    """Of ten that gave up waiting none reaches the handler, and later ones are served."""
    impatient = [held.stub.Recommend.future(REQUEST, timeout=0.2) for _ in range(10)]
    assert {call.code() for call in impatient} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    held.go_on()
    assert len(held.stub.Recommend(REQUEST, timeout=30).recommendations) == 2
    assert held.begun == 3


def test_a_call_that_waited_longer_than_it_has_left_is_refused(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not begun, and is RESOURCE_EXHAUSTED for all who look; one that has the time, or no deadline, is served."""
    waiting = [held.stub.Recommend.future(REQUEST, timeout=timeout) for timeout in (60, 600, None)]
    time.sleep(1.0)  # they arrive, on a busy machine, too
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 100, sleep=time.sleep)
    monkeypatch.setattr("services.recommendations.pool.time", later)
    held.go_on()
    assert [call.code().name for call in waiting] == ["RESOURCE_EXHAUSTED", "OK", "OK"]
    assert held.begun == 4
    eventually(
        lambda: held.running.telemetry.value("grpc_server_handled_total", grpc_code="RESOURCE_EXHAUSTED") == 1
    )
