"""A server whose handlers end in every way that a unary call can, threaded and asyncio; and clients for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from observability.testing import MemoryTelemetry

CODE = grpc.StatusCode


def rich() -> Any:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="NO_SUCH_THING", domain="test.example"))
    return rpc_status.to_status(status_pb2.Status(code=code_pb2.NOT_FOUND, message="rich", details=[detail]))


def serialize(response: Any) -> bytes:
    if not isinstance(response, bytes):
        raise TypeError("not bytes")
    return response


def deserialize(data: bytes) -> bytes:
    if data == b"unparsable":
        raise ValueError("unparsable")
    return data


class Sync:
    """Handlers of a threaded server; `slow` goes on until it is released, or its client is gone."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def returns(self, request: bytes, context: Any) -> bytes:
        return request

    def raises(self, request: bytes, context: Any) -> bytes:
        raise ValueError("broken")

    def sets_then_raises(self, request: bytes, context: Any) -> bytes:
        context.set_code(CODE.DATA_LOSS)
        raise ValueError("broken")

    def aborts(self, request: bytes, context: Any) -> bytes:
        code = grpc.StatusCode[request.decode()]
        context.abort(code, f"aborted with {code.name}")
        raise AssertionError

    def sets(self, request: bytes, context: Any) -> bytes:
        context.set_code(CODE.ALREADY_EXISTS)
        context.set_details("there already")
        return request

    def rich(self, request: bytes, context: Any) -> bytes:
        context.abort_with_status(rich())
        raise AssertionError

    def unserializable(self, request: bytes, context: Any) -> Any:
        return 5

    def slow(self, request: bytes, context: Any) -> bytes:
        while not self.released.wait(0.01) and context.is_active():
            pass
        return request

    def count(self, requests: Any, context: Any) -> Iterator[bytes]:
        yield from requests

    def ticks(self, request: bytes, context: Any) -> Iterator[bytes]:
        while context.is_active():
            yield request


class Aio:
    """The same of an asyncio server."""

    async def returns(self, request: bytes, context: Any) -> bytes:
        return request

    async def raises(self, request: bytes, context: Any) -> bytes:
        raise ValueError("broken")

    async def sets_then_raises(self, request: bytes, context: Any) -> bytes:
        context.set_code(CODE.DATA_LOSS)
        raise ValueError("broken")

    async def aborts(self, request: bytes, context: Any) -> bytes:
        code = grpc.StatusCode[request.decode()]
        await context.abort(code, f"aborted with {code.name}")
        raise AssertionError

    async def sets(self, request: bytes, context: Any) -> bytes:
        context.set_code(CODE.ALREADY_EXISTS)
        context.set_details("there already")
        return request

    async def rich(self, request: bytes, context: Any) -> bytes:
        await context.abort_with_status(rich())
        raise AssertionError

    async def unserializable(self, request: bytes, context: Any) -> Any:
        return 5

    async def slow(self, request: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return request

    async def count(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def ticks(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield request


def handler_of(service: Any) -> grpc.GenericRpcHandler:
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(getattr(service, name), deserialize, serialize)
        for name in dir(service)
        if name not in {"count", "released", "ticks"} and not name.startswith("_")
    }
    handlers["count"] = grpc.stream_stream_rpc_method_handler(service.count, deserialize, serialize)
    handlers["ticks"] = grpc.unary_stream_rpc_method_handler(service.ticks, deserialize, serialize)
    return grpc.method_handlers_generic_handler("test.Service", handlers)


@contextmanager
def threaded_server(interceptors: list[Any], service: Any = None, workers: int = 4) -> Iterator[str]:
    """A threaded server on a port of the system's choice; gives its target."""
    service = service or Sync()
    server = grpc.server(ThreadPoolExecutor(workers), interceptors=interceptors)
    server.add_generic_rpc_handlers((handler_of(service),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        getattr(service, "released", threading.Event()).set()
        server.stop(5).wait()


def sync_server(telemetry: MemoryTelemetry, service: Any = None, *inner: Any) -> AbstractContextManager[str]:
    """A threaded server with this telemetry, and other interceptors inside of it."""
    return threaded_server([*telemetry.server_interceptors(), *inner], service)


@asynccontextmanager
async def aio_server(telemetry: MemoryTelemetry, service: Any = None, *inner: Any) -> AsyncIterator[str]:
    """An asyncio server on a port of the system's choice; gives its target."""
    server = grpc.aio.server(interceptors=[*telemetry.aio_server_interceptors(), *inner])
    server.add_generic_rpc_handlers((handler_of(service or Aio()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@contextmanager
def aio_server_thread(telemetry: MemoryTelemetry, service: Any = None) -> Iterator[str]:
    """The asyncio server on a separate thread, for a client that blocks."""
    ready, stop = threading.Event(), threading.Event()
    target: list[str] = []

    async def serve() -> None:
        async with aio_server(telemetry, service) as found:
            target.append(found)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(10)
    try:
        yield target[0]
    finally:
        stop.set()
        thread.join()


@contextmanager
def channel(telemetry: MemoryTelemetry, target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target) as bare:
        yield grpc.intercept_channel(bare, *telemetry.client_interceptors(target=target))


def eventually_idle(telemetry: MemoryTelemetry, side: str, calls: int) -> bool:
    """Whether that many calls have ended on the side, by spans, counters and lines alike."""
    kind = {"server": "SERVER", "client": "CLIENT"}[side]
    return (
        sum(span.kind.name == kind for span in telemetry.spans()) == calls
        and telemetry.value(f"grpc_{side}_handled_total") == calls
        and sum(line["event"] == f"grpc.{side}.call" for line in telemetry.lines()) == calls
    )
