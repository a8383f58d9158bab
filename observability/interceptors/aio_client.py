"""The interceptors for grpc.aio.Channel: one for each kind of RPC, as gRPC wants them."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import grpc

from observability.call import Call, Recorder
from observability.contrib import Contrib
from observability.failures import Failures
from observability.interceptors.client import REQUEST_STREAMS, merged, path_of


class _Recording:
    kind: str

    def __init__(self, recorder: Recorder, failures: Failures, contrib: Contrib) -> None:
        self._recorder, self._failures, self._contrib = recorder, failures, contrib

    async def _record(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        # Runs in a task of its own: the span is current in the call, never in the caller's code.
        call = self._begin(details)
        if call is None:
            return await continuation(details, request)
        request = _requests(call, request) if self.kind in REQUEST_STREAMS else request
        try:
            details = details._replace(metadata=grpc.aio.Metadata(*merged(details.metadata, call)))
            with self._contrib.stands_back():
                outcome = await continuation(details, request)
        except BaseException as error:
            _end_raised(call, error)
            raise
        try:
            _follow(call, outcome)
        except Exception:
            self._failures.count("interceptor")
        return outcome

    def _begin(self, details: Any) -> Call | None:
        try:
            bound = self._recorder.bind(path_of(details.method), self.kind)
            call = bound.begin(tuple(details.metadata or ()), "", details.timeout)
        except Exception:
            self._failures.count("interceptor")
            return None
        if self.kind not in REQUEST_STREAMS:
            call.message("sent")
        return call


def _requests(call: Call, requests: Any) -> Any:
    """The caller's requests, counted as gRPC takes them."""
    return _AsyncRequests(call, requests) if hasattr(requests, "__aiter__") else _SyncRequests(call, requests)


class _AsyncRequests:
    def __init__(self, call: Call, requests: Any) -> None:
        self._call, self._requests = call, requests

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for request in self._requests:
            self._call.message("sent")
            yield request


class _SyncRequests:
    def __init__(self, call: Call, requests: Any) -> None:
        self._call, self._requests = call, requests

    def __iter__(self) -> Iterator[Any]:
        for request in self._requests:
            self._call.message("sent")
            yield request


class _Responses:
    """The responses of a call, counted as the caller takes them."""

    def __init__(self, call: Call, responses: AsyncIterator[Any]) -> None:
        self._call, self._responses = call, responses

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        response = await anext(self._responses)
        self._call.message("received")
        return response


@functools.cache
def _followed(kind: Any) -> type:
    """The class of a call object that tells the record of its messages; the object stays gRPC's own."""

    def __aiter__(self: Any) -> AsyncIterator[Any]:  # noqa: N807
        return _Responses(self.observed, kind.__aiter__(self))

    more = {"__module__": kind.__module__, "__slots__": (), "__aiter__": __aiter__}
    return type(kind.__name__, (kind,), more)


def _follow(call: Call, outcome: Any) -> None:
    if call.method.streams_responses and hasattr(outcome, "__aiter__"):
        outcome.observed = call
        outcome.__class__ = _followed(type(outcome))  # type: ignore[arg-type]
    if outcome.done():
        _end(call, outcome)
    else:
        loop = asyncio.get_running_loop()
        outcome.add_done_callback(lambda ended: _end_soon(call, ended, loop))


def _end_soon(call: Call, ended: Any, loop: asyncio.AbstractEventLoop) -> None:
    """End the record; of a cancelled call at the loop's next turn.

    Whoever cancels may be the garbage collector, in the midst of anything, which is no place to write metrics
    and log lines.
    """
    if ended.cancelled():
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_end, call, ended)
            return
    _end(call, ended)


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


def aio_client_interceptors(
    recorder: Recorder, failures: Failures, contrib: Contrib
) -> list[grpc.aio.ClientInterceptor]:
    """The four of them."""
    return [
        kind(recorder, failures, contrib) for kind in (UnaryUnary, UnaryStream, StreamUnary, StreamStream)
    ]


def _end_raised(call: Call, error: BaseException) -> None:
    if isinstance(error, grpc.aio.AioRpcError):
        call.end(error.code().name, error.details() or "", trailers=tuple(error.trailing_metadata()))
    elif isinstance(error, Exception):
        call.end("UNKNOWN", str(error), error)
    else:
        call.end("CANCELLED")


def _end(call: Call, ended: Any) -> None:
    status = _now(ended.code()).name
    if status == "OK" and not call.method.streams_responses:
        call.message("received")
    call.end(status, _now(ended.details()) or "", trailers=tuple(_now(ended.trailing_metadata()) or ()))


def _now(answer: Coroutine[Any, Any, Any]) -> Any:
    """What an ended call answers: its coroutines have nothing left to wait for."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    raise RuntimeError("the call has not ended")
