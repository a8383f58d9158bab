"""Calls that wait for a thread: work that nobody waits for any more is not begun."""

import threading
from types import SimpleNamespace

import grpc
import pytest

from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.recommendations import server as module
from services.recommendations.config import Settings
from tests.unit.services.recommending import Running


def test_a_call_whose_deadline_passed_in_the_queue_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls hold both threads; of ten that gave up waiting none reaches the handler, and later ones are served."""
    begun, go_on = threading.Semaphore(0), threading.Event()
    count = []

    def hold(_: float) -> None:
        count.append(1)
        begun.release()
        go_on.wait(30)

    monkeypatch.setattr(module, "MOST_THREADS", 2)
    monkeypatch.setattr("services.recommendations.faults.time", SimpleNamespace(sleep=hold))
    running = Running(Settings(recommendations_port=0, drain_s=0))
    running.switch.on("slow", "1", "400")
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        stub, request = RecommendationsStub(channel), RecommendationRequest(max_results=2)
        held = [stub.Recommend.future(request, timeout=30) for _ in range(2)]
        for _ in held:
            assert begun.acquire(timeout=30)
        impatient = [stub.Recommend.future(request, timeout=0.2) for _ in range(10)]
        assert {call.code() for call in impatient} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        go_on.set()
        assert {len(call.result().recommendations) for call in held} == {2}
        assert len(stub.Recommend(request, timeout=30).recommendations) == 2
        assert len(count) == 3
    running.close()
