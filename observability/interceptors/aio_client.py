"""The interceptors for grpc.aio.Channel: one for each kind of RPC, as gRPC wants them."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc

from observability.call import Call, Recorder
from observability.interceptors.client import merged


class _Recording:
    kind: str

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def _record(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        # Runs in a task of its own: the span is current in the call, never in the caller's code.
        call = self._recorder.bind(method, self.kind).begin((), "", details.timeout)
        details = details._replace(metadata=grpc.aio.Metadata(*merged(details.metadata, call)))
        try:
            outcome = await continuation(details, request)
        except BaseException as error:
            _end_raised(call, error)
            raise
        if outcome.done():
            _end(call, outcome)
        else:
            outcome.add_done_callback(lambda ended: _end(call, ended))
        return outcome


class UnaryUnary(_Recording, grpc.aio.UnaryUnaryClientInterceptor):
    """Records unary calls."""

    kind = "unary"

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Record one."""
        return await self._record(continuation, client_call_details, request)


class UnaryStream(_Recording, grpc.aio.UnaryStreamClientInterceptor):
    """Records calls that answer with a stream."""

    kind = "server_stream"

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Record one."""
        return await self._record(continuation, client_call_details, request)


class StreamUnary(_Recording, grpc.aio.StreamUnaryClientInterceptor):
    """Records calls that send a stream."""

    kind = "client_stream"

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Record one."""
        return await self._record(continuation, client_call_details, request_iterator)


class StreamStream(_Recording, grpc.aio.StreamStreamClientInterceptor):
    """Records calls of two streams."""

    kind = "bidi_stream"

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Record one."""
        return await self._record(continuation, client_call_details, request_iterator)


def aio_client_interceptors(recorder: Recorder) -> list[grpc.aio.ClientInterceptor]:
    """The four of them."""
    return [kind(recorder) for kind in (UnaryUnary, UnaryStream, StreamUnary, StreamStream)]


def _end_raised(call: Call, error: BaseException) -> None:
    if isinstance(error, grpc.aio.AioRpcError):
        call.end(error.code().name, error.details() or "", trailers=tuple(error.trailing_metadata()))
    elif isinstance(error, Exception):
        call.end("UNKNOWN", str(error), error)
    else:
        call.end("CANCELLED")


def _end(call: Call, ended: Any) -> None:
    status = _now(ended.code()).name
    if call.method.kind == "unary":
        call.sent, call.received = 1, int(status == "OK")
    call.end(status, _now(ended.details()) or "", trailers=tuple(_now(ended.trailing_metadata()) or ()))


def _now(answer: Coroutine[Any, Any, Any]) -> Any:
    """What an ended call answers: its coroutines have nothing left to wait for."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    raise RuntimeError("the call has not ended")
