"""Domain errors become statuses, on both kinds of server."""

import asyncio
from typing import Any

import grpc
import pytest

from observability import AioErrorInterceptor, ErrorInterceptor
from observability.testing import MemoryTelemetry
from tests.unit.observability.rpc import Aio, Sync, aio_server, channel, rich, sync_server


class DomainError(Exception):
    pass


class Raises(Sync):
    def raises(self, request: bytes, context: Any) -> bytes:
        raise DomainError

    def count(self, requests: Any, context: Any) -> Any:
        yield next(requests)
        raise DomainError


class RaisesAio(Aio):
    async def raises(self, request: bytes, context: Any) -> bytes:
        raise DomainError

    async def count(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            yield request
            raise DomainError


def to_status(error: Exception) -> Any:
    return rpc_status_of(rich()) if isinstance(error, DomainError) else None


def rpc_status_of(status: Any) -> Any:
    from google.rpc import status_pb2

    return status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])


def check_errors(made: Any) -> None:
    with pytest.raises(grpc.RpcError) as unary:
        made.unary_unary("/test.Service/raises")(b"x", timeout=10)
    stream = made.stream_stream("/test.Service/count")(iter([b"1"]), timeout=10)
    with pytest.raises(grpc.RpcError):
        list(stream)
    with pytest.raises(grpc.RpcError) as other:
        made.unary_unary("/test.Service/unserializable")(b"x", timeout=10)
    assert unary.value.code() is stream.code() is grpc.StatusCode.NOT_FOUND
    assert other.value.code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


def test_domain_errors_become_statuses() -> None:
    """What a handler raises is mapped in one place; what is not mapped goes on."""
    server = MemoryTelemetry()
    interceptor = ErrorInterceptor(to_status)
    with sync_server(server, Raises(), interceptor) as target, channel(MemoryTelemetry(), target) as made:
        check_errors(made)
        with pytest.raises(grpc.RpcError):
            made.unary_unary("/test.Service/unknown")(b"x", timeout=10)
    ended = [span for span in server.spans() if (span.attributes or {})["rpc.status_code"] == "NOT_FOUND"]
    assert [span.events for span in ended] == [(), ()]


def test_domain_errors_become_statuses_on_asyncio() -> None:
    """The same on an asyncio server."""

    async def run() -> None:
        async with aio_server(MemoryTelemetry(), RaisesAio(), AioErrorInterceptor(to_status)) as target:
            await asyncio.to_thread(blocking, target)

    def blocking(target: str) -> None:
        with channel(MemoryTelemetry(), target) as made:
            check_errors(made)
            with pytest.raises(grpc.RpcError):
                made.unary_unary("/test.Service/unknown")(b"x", timeout=10)

    asyncio.run(run())
