"""What holds no server up: blocked handlers, watchers, clients that send nothing, and malformed requests."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.wire import PREFACE, frame, header
from observability.testing import eventually
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.recommendations import server as module
from services.recommendations.config import Settings
from services.recommendations.parsing import DETAILS
from tests.e2e.test_holding_out import status_of
from tests.unit.services.recommending import Running

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
METHOD = "/Recommendations/Recommend"


@contextmanager
def serving(**settings: Any) -> Iterator[tuple[Running, grpc.Channel]]:
    """A server of recommendations, and a channel to it."""
    running = Running(Settings(recommendations_port=0, drain_s=0, **settings))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield running, channel
    finally:
        running.close()


def recommend(channel: grpc.Channel, metadata_bytes: int = 0) -> int:
    request = RecommendationRequest(user_id=1, max_results=2)
    metadata = [("x-large", "v" * metadata_bytes)]
    answer = RecommendationsStub(channel).Recommend(request, metadata=metadata, timeout=30)
    return len(answer.recommendations)


@pytest.mark.full
@pytest.mark.parametrize("size", [16_384, 1_000_000])
def test_metadata_that_is_too_large(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with more metadata than gRPC's hard limit, 16 KiB, is refused; others on its connection are served.

    Under the soft limit, 8 KiB, all are served. No connection ends meanwhile for its age.
    """
    ageless = [option for option in module.OPTIONS if option[0] != "grpc.max_connection_age_ms"]
    monkeypatch.setattr(module, "OPTIONS", ageless)
    with serving() as (running, channel):
        for _ in range(20):
            recommend(channel, 7_000)
            with pytest.raises(grpc.RpcError, match="metadata size exceeds hard limit") as refused:
                recommend(channel, size)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        eventually(lambda: running.telemetry.value("grpc_server_in_flight") == 0)
        eventually(lambda: running.telemetry.value("grpc_server_handled_total", grpc_code="OK") == 20)


@contextmanager
def silent(channel: grpc.Channel, count: int) -> Iterator[list[Any]]:
    """Calls that have begun, and whose only message does not come."""
    end = threading.Event()

    def nothing() -> Iterator[bytes]:
        end.wait(60)
        yield from ()

    begin: Any = channel.stream_unary(METHOD)
    calls = [begin.future(nothing(), timeout=60) for _ in range(count)]
    try:
        yield calls
    finally:
        end.set()
        for call in calls:
            call.cancel()


def test_slow_calls_do_not_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen calls that the fault `slow` holds are in their handlers at once."""
    all_in = threading.Barrier(16)
    monkeypatch.setattr(
        "services.recommendations.faults.time", SimpleNamespace(sleep=lambda _: all_in.wait(30))
    )
    with serving() as (running, channel):
        running.switch.on("slow", "1", "400")
        stub, request = RecommendationsStub(channel), RecommendationRequest(max_results=2)
        calls = [stub.Recommend.future(request, timeout=30) for _ in range(16)]
        assert {len(call.result().recommendations) for call in calls} == {2}


def test_watchers_hold_nobody_up() -> None:
    """With more watchers of health than the pool has threads, calls are served; at the stop each is informed."""
    with ExitStack() as stack:
        running, channel = stack.enter_context(serving(grace_s=5))
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watchers = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(module.MOST_THREADS + 10)]
        assert {next(watcher).status for watcher in watchers} == {SERVING}
        assert recommend(channel) == 2
        stopping = threading.Thread(target=running.close)
        stopping.start()
        assert {next(watcher).status for watcher in watchers} == {NOT_SERVING}
        for watcher in watchers:
            watcher.cancel()
        stopping.join()


def test_watchers_are_no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """More watchers of health than calls are allowed at once: calls are served all the same."""
    monkeypatch.setattr(module, "MOST_CALLS", 2)
    with serving() as (_, channel):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watchers = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(5)]
        assert {next(watcher).status for watcher in watchers} == {SERVING}
        assert recommend(channel) == 2
        for watcher in watchers:
            watcher.cancel()


def test_clients_that_send_nothing_hold_nobody_up() -> None:
    """Calls whose message does not come take threads, and others are served meanwhile."""
    with serving() as (_, channel), silent(channel, 20):
        eventually(lambda: threads_of_the_pool() >= 20)
        assert recommend(channel) == 2


def threads_of_the_pool() -> int:
    return sum(type(thread).__module__ == "services.recommendations.pool" for thread in threading.enumerate())


def test_too_many_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """More calls at once than allowed are RESOURCE_EXHAUSTED, and later ones are served."""
    monkeypatch.setattr(module, "MOST_CALLS", 2)
    with serving() as (_, channel):
        with silent(channel, 3) as calls:
            (refused,) = eventually(lambda: [call for call in calls if call.done()])
            assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        eventually(lambda: served(channel))


def served(channel: grpc.Channel) -> bool:
    try:
        return recommend(channel) == 2
    except grpc.RpcError:
        return False


def test_a_path_that_is_no_text() -> None:
    """A request whose :path is not UTF-8 ends nothing but itself: new connections are accepted and served."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": b"/\xff\xfe/\xff", b":authority": b"x",
              b"te": b"trailers", b"content-type": b"application/grpc"}  # fmt: skip
    headers = b"".join(header(*field) for field in fields.items())
    hello = PREFACE + frame(4, 0, 0, b"")
    with serving() as (running, _):
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
            connection.sendall(hello + frame(1, 5, 1, headers) + frame(6, 0, 0, b"all read"))
            answer = b""
            while frame(6, 1, 0, b"all read") not in answer:  # the pong: what came before it has been read
                answer += connection.recv(4096)
        for _ in range(3):
            with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
                assert recommend(channel) == 2


@pytest.mark.parametrize("method", [METHOD, "/grpc.health.v1.Health/Check"])
def test_what_cannot_be_parsed_leaves_nothing(method: str) -> None:
    """Each such call is INTERNAL, as gRPC says it, and none stays in memory."""
    with serving() as (running, channel):
        call: Any = channel.unary_unary(method)
        before = 0.0
        for number in range(1200):
            if number == 200:
                before = memory_mib()
            with pytest.raises(grpc.RpcError) as raised:
                call(b"\xff\xff", timeout=30)
            error: Any = raised.value
            assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, DETAILS)
        assert memory_mib() - before < 8  # 25 KiB of each would be 25 MiB
        assert recommend(channel) == 2
        eventually(lambda: running.telemetry.value("grpc_server_handled_total", grpc_code="INTERNAL") == 1200)


def memory_mib() -> float:
    return status_of(os.getpid(), "VmRSS") / 1024
