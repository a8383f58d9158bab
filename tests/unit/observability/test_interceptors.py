"""What the interceptors leave as it is, and what they add."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.instrumentation.grpc import filters
from opentelemetry.trace import get_current_span

from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import (
    Aio,
    Sync,
    aio_server,
    aio_server_thread,
    channel,
    eventually_idle,
    sync_server,
)

METADATA = (("repeated", "a"), ("repeated", "b"), ("raw-bin", b"\x00\xff"))


class Looks(Sync):
    """Records what a handler sees."""

    def returns(self, request: bytes, context: Any) -> bytes:
        ours = [tuple(pair) for pair in context.invocation_metadata() if pair[0] in {"repeated", "raw-bin"}]
        context.set_trailing_metadata(
            (("seen", str(len(ours))), ("span", str(get_current_span().is_recording())))
        )
        return request


class LooksAio(Aio):
    """The same on an asyncio server, by a plain function, which gRPC runs on a thread."""

    def returns(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return Looks().returns(request, context)

    def aborts(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        context.abort(grpc.StatusCode.NOT_FOUND, "plain")
        raise AssertionError

    def sets(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        context.set_code(5)
        context.set_details("five")
        assert context.time_remaining() is not None
        return request

    def raises(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        raise ValueError("broken")

    def count(self, requests: Any, context: Any) -> Any:
        return iter([b"1", b"2"])


@pytest.mark.parametrize(("serve", "service"), [(sync_server, Looks), (aio_server_thread, LooksAio)])
def test_handler_sees_the_metadata_and_its_span(serve: Any, service: Any) -> None:
    """Repeated and binary metadata reach the handler, whose own span is the current one."""
    with serve(MemoryTelemetry(), service()) as target, channel(MemoryTelemetry(), target) as made:
        given = list(METADATA)
        _, call = made.unary_unary("/test.Service/returns").with_call(b"x", metadata=given)
        assert dict(call.trailing_metadata()) == {"seen": "3", "span": "True"}
        assert given == list(METADATA)


@pytest.mark.parametrize(
    ("method", "status"),
    [("returns", "OK"), ("aborts", "NOT_FOUND"), ("sets", "NOT_FOUND"), ("raises", "UNKNOWN")],
)
def test_plain_functions_on_an_asyncio_server(method: str, status: str) -> None:
    """A plain function on an asyncio server ends with the status that it sets, which its context cannot show."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    with aio_server_thread(server, LooksAio()) as target, channel(client, target) as made:
        future = made.unary_unary(f"/test.Service/{method}").future(b"x", timeout=10)
        assert future.code().name == status
        eventually(lambda: server.value("grpc_server_handled_total", grpc_code=status) == 1)


@pytest.mark.parametrize("serve", [sync_server, aio_server_thread])
def test_streams_pass_and_are_counted(serve: Any) -> None:
    """A stream of streams passes through, message by message, and ends as one call on both sides."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    with serve(server) as target, channel(client, target) as made:
        stream = made.stream_stream("/test.Service/count")(iter([b"1", b"2", b"3"]), timeout=10)
        assert list(stream) == [b"1", b"2", b"3"]
        assert stream.code() is grpc.StatusCode.OK
        eventually(lambda: eventually_idle(server, "server", 1) and eventually_idle(client, "client", 1))
    assert server.value("grpc_server_handled_total", grpc_code="OK", grpc_type="bidi_stream") == 1
    assert server.value("grpc_server_msg_received_total") == server.value("grpc_server_msg_sent_total") == 3


@pytest.mark.parametrize("serve", [sync_server, aio_server_thread])
def test_a_stream_that_is_left_early_is_cancelled(serve: Any) -> None:
    """A client that leaves a stream ends it as CANCELLED on both sides."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    with serve(server) as target, channel(client, target) as made:
        stream = made.unary_stream("/test.Service/ticks")(b"1", timeout=60)
        assert next(stream) == b"1"
        stream.cancel()
        eventually(lambda: eventually_idle(client, "client", 1) and eventually_idle(server, "server", 1))
    for telemetry, side in ((client, "client"), (server, "server")):
        assert telemetry.value(f"grpc_{side}_handled_total", grpc_code="CANCELLED") == 1
        assert telemetry.value(f"grpc_{side}_in_flight") == 0


def test_a_plain_stream_on_an_asyncio_server() -> None:
    """A plain function that returns an iterator serves a stream on an asyncio server."""
    server = MemoryTelemetry()
    with aio_server_thread(server, LooksAio()) as target, channel(MemoryTelemetry(), target) as made:
        assert list(made.stream_stream("/test.Service/count")(iter([b"x"]), timeout=10)) == [b"1", b"2"]
        eventually(lambda: server.value("grpc_server_handled_total", grpc_code="OK") == 1)


def test_asyncio_client() -> None:
    """An asyncio client's calls of each kind end as one record, in one trace with the server's."""

    async def run(server: MemoryTelemetry, client: MemoryTelemetry) -> None:
        async with aio_server(server) as target:
            interceptors = client.aio_client_interceptors(target=target)
            made: Any
            async with grpc.aio.insecure_channel(target, interceptors=interceptors) as made:
                assert await made.unary_unary("/test.Service/returns")(b"x") == b"x"
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await made.unary_unary("/test.Service/rich")(b"x", metadata=(("a", "b"),))
                assert caught.value.code() is grpc.StatusCode.NOT_FOUND
                stream = made.stream_stream("/test.Service/count")(iter([b"1", b"2"]))
                assert [message async for message in stream] == [b"1", b"2"]
                waiting = asyncio.create_task(_wait(made))
                await asyncio.to_thread(eventually, lambda: server.value("grpc_server_in_flight") == 1)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            await asyncio.to_thread(eventually, lambda: eventually_idle(server, "server", 4))

    async def _wait(made: Any) -> None:
        await made.unary_unary("/test.Service/slow")(b"x")

    server, client = MemoryTelemetry(), MemoryTelemetry()
    asyncio.run(run(server, client))
    assert eventually_idle(client, "client", 4)
    statuses = {span.attributes["rpc.status_code"] for span in client.spans() if span.attributes}
    assert statuses == {"OK", "NOT_FOUND", "CANCELLED"}
    assert {s.context.trace_id for s in client.spans()} == {s.context.trace_id for s in server.spans()}


def test_asyncio_client_of_each_kind() -> None:
    """Calls with one stream are each one record."""

    async def run(client: MemoryTelemetry) -> None:
        async with aio_server(MemoryTelemetry()) as target:
            made: Any
            interceptors = client.aio_client_interceptors(target=target)
            async with grpc.aio.insecure_channel(target, interceptors=interceptors) as made:
                assert [message async for message in made.unary_stream("/test.Service/count")(b"1")] == [b"1"]
                assert await made.stream_unary("/test.Service/count")(iter([b"1"])) == b"1"

    client = MemoryTelemetry()
    asyncio.run(run(client))
    kinds = ("server_stream", "client_stream")
    assert [client.value("grpc_client_handled_total", grpc_type=kind) for kind in kinds] == [1, 1]
    assert client.value("grpc_client_in_flight") == 0


def test_asyncio_client_whose_write_fails() -> None:
    """Recorded is the status that the caller gets, not the INTERNAL that a write after the end leaves in between.

    Now and then grpcio raises that INTERNAL to the caller, too, and has the other status afterwards.
    """
    got: Counter[str] = Counter()

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"1"

    async def run(client: MemoryTelemetry) -> None:
        async with aio_server(MemoryTelemetry()) as target:
            made: Any
            interceptors = client.aio_client_interceptors(target=target)
            async with grpc.aio.insecure_channel(target, interceptors=interceptors) as made:
                call = made.stream_unary("/test.Service/missing")
                for _ in range(100):
                    answers = (call(requests()) for _ in range(16))
                    errors: list[Any] = await asyncio.gather(*answers, return_exceptions=True)
                    got.update(error.code().name for error in errors)

    client = MemoryTelemetry()
    asyncio.run(run(client))
    assert eventually(lambda: client.value("grpc_client_handled_total") == 1600)
    assert got["UNIMPLEMENTED"] > 1500
    recorded = [
        client.value("grpc_client_handled_total", grpc_code=code) for code in ("UNIMPLEMENTED", "INTERNAL")
    ]
    assert sum(recorded) == got.total() == 1600
    assert recorded[1] <= got["INTERNAL"]


def _refuses(request: Any) -> bytes:
    raise TypeError("no such thing")


def test_client_of_each_kind() -> None:
    """Calls with one stream, and one that cannot be sent, are each one record."""
    client = MemoryTelemetry()
    with sync_server(MemoryTelemetry()) as target, channel(client, target) as made:
        assert list(made.unary_stream("/test.Service/count")(b"1", timeout=10)) == [b"1"]
        assert made.stream_unary("/test.Service/count")(iter([b"1"]), timeout=10) == b"1"
        with pytest.raises(grpc.RpcError):
            made.unary_unary("/test.Service/returns", request_serializer=_refuses)(b"x", timeout=10)
    kinds = ("server_stream", "client_stream", "unary")
    assert [client.value("grpc_client_handled_total", grpc_type=kind) for kind in kinds] == [1, 1, 1]
    assert client.value("grpc_client_in_flight") == 0


def test_excluded_methods_are_counted_only() -> None:
    """A method that the condition excludes has no span and no line, but its counters."""
    server = MemoryTelemetry(exclude=filters.method_name("returns"))
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x")
        eventually(lambda: server.value("grpc_server_handled_total", grpc_code="OK") == 1)
    assert server.spans() == ()
    assert server.lines() == []


def test_excluded_services_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_PYTHON_GRPC_EXCLUDED_SERVICES means what it means elsewhere."""
    monkeypatch.setenv("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", "other.Service, test.Service")
    server = MemoryTelemetry()
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x")
        eventually(lambda: server.value("grpc_server_handled_total", grpc_code="OK") == 1)
    assert server.spans() == ()


def test_a_default_deadline() -> None:
    """Calls without a timeout get the channel's; a timeout of the call's own is kept."""
    telemetry = MemoryTelemetry()
    with sync_server(MemoryTelemetry()) as target, grpc.insecure_channel(target) as bare:
        made: Any = grpc.intercept_channel(bare, *telemetry.client_interceptors(target, timeout_s=0.2))
        with pytest.raises(grpc.RpcError) as caught:
            made.unary_unary("/test.Service/slow")(b"x")
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert made.unary_unary("/test.Service/returns")(b"x", timeout=10) == b"x"


def test_a_default_deadline_of_an_asyncio_channel() -> None:
    """Calls of each kind without a timeout get the channel's; a timeout of the call's own is kept."""

    async def run(client: MemoryTelemetry) -> None:
        async with aio_server(MemoryTelemetry()) as target:
            made: Any
            interceptors = client.aio_client_interceptors(target, timeout_s=0.2)
            async with grpc.aio.insecure_channel(target, interceptors=interceptors) as made:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await made.unary_unary("/test.Service/slow")(b"x")
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                for call in (
                    made.unary_stream("/test.Service/ticks")(b"x"),
                    made.stream_stream("/test.Service/count")(_endless()),
                ):
                    with pytest.raises(grpc.aio.AioRpcError):
                        _ = [message async for message in call]
                    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                with pytest.raises(grpc.aio.AioRpcError):
                    await made.stream_unary("/test.Service/count")(_endless())
                assert await made.unary_unary("/test.Service/returns")(b"x", timeout=10) == b"x"

    client = MemoryTelemetry()
    asyncio.run(asyncio.wait_for(run(client), timeout=10))
    assert client.value("grpc_client_handled_total", grpc_code="DEADLINE_EXCEEDED") == 4
    assert client.value("grpc_client_handled_total", grpc_code="OK") == 1
    assert all("deadline_left_ms" in line for line in client.lines())


async def _endless() -> AsyncIterator[bytes]:
    yield b"1"
    await asyncio.Event().wait()  # a message that gRPC sends when the deadline passes may make it INTERNAL
