"""The interceptors for grpc.aio.Channel: one for each kind of RPC, as gRPC wants them."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from observability.call import Call
from observability.grpc.client import REQUEST_STREAMS, Requests, begin, end_raised, is_recorded, mark, merged
from observability.grpc.recorder import Recorder
from observability.handing_on import handing_on
from observability.journal import Journal


class _Recorded(grpc.aio.Metadata):
    """The metadata of a recorded call on an asyncio channel."""

    journal: Journal
    path: str | bytes


class _Recording:
    kind: str

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def record(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        """Record one; request is the request, or what is iterated for many."""
        if not is_instrumentation_enabled() or is_recorded(self._recorder, details, _Recorded):
            return await continuation(details, request)
        details = details._replace(metadata=tuple(details.metadata or ()))  # it may be a generator
        call, scope = begin(self._recorder, self.kind, details, request)
        if call is None:
            return await continuation(details, request)
        request = _requests(call, request) if self.kind in REQUEST_STREAMS else request
        sent = _Recorded(*merged(details.metadata, call))
        mark(sent, self._recorder, details)
        details = details._replace(metadata=sent)
        token = otel_context.attach(scope) if scope is not None else None
        try:
            outcome = await self._go_on(continuation, details, request)
        except BaseException as error:
            end_raised(call, error)
            raise
        finally:
            if token is not None:
                otel_context.detach(token)
        try:
            return _observed(call, outcome)
        except Exception:
            call.fail("client")
            return outcome

    async def _go_on(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        if not self._recorder.contrib.is_loaded():
            return await continuation(details, request)
        with self._recorder.contrib.kept_out():
            return await continuation(details, request)


def _requests(call: Call, requests: Any) -> Any:
    """The caller's requests, counted as gRPC takes them; an iterator stays one, as interceptors may ask."""
    if hasattr(requests, "__anext__"):
        return _AsyncRequests(call, requests)
    if hasattr(requests, "__aiter__"):
        return _AsyncIterable(call, requests)
    return Requests(call, requests) if hasattr(requests, "__next__") else _Iterable(call, requests)


class _AsyncRequests(AsyncIterator[Any]):
    def __init__(self, call: Call, requests: Any) -> None:
        self._call = call
        self._requests = requests

    async def __anext__(self) -> Any:
        request = await anext(self._requests)
        self._call.message_sent(request)
        return request


class _AsyncIterable:
    def __init__(self, call: Call, requests: Any) -> None:
        self._call = call
        self._requests = requests

    def __aiter__(self) -> AsyncIterator[Any]:
        return _AsyncRequests(self._call, aiter(self._requests))


class _Iterable:
    def __init__(self, call: Call, requests: Any) -> None:
        self._call = call
        self._requests = requests

    def __iter__(self) -> Iterator[Any]:
        return Requests(self._call, iter(self._requests))


class _Responses(AsyncIterator[Any]):
    """An interceptor's own iterator instead of a call object: it has no status but how it ends."""

    def __init__(self, record: Call, inner: Any) -> None:
        self._record = record
        self._responses: Any = aiter(inner)

    async def __anext__(self) -> Any:
        try:
            response = await anext(self._responses)
        except StopAsyncIteration:
            self._record.end("OK")
            raise
        except BaseException as error:
            end_raised(self._record, error)
            raise
        self._record.message_received(response)
        return response

    async def aclose(self) -> None:
        """Leave a generator early."""
        self._record.end("CANCELLED")
        await self._responses.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._responses, name)

    def __del__(self) -> None:
        self._record.end("CANCELLED")


class _ObservedStream:
    """A call whose responses are a stream: all that gRPC's call object has, handed on to it.

    It counts the responses as they are taken, also one that is being taken when the call ends.
    """

    def __init__(self, record: Call, inner: Any) -> None:
        self._record = record
        self.inner = inner
        self._is_reading = False
        self._has_ended = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        responses = aiter(self.inner)
        while (response := await self._take(anext(responses, grpc.aio.EOF))) is not grpc.aio.EOF:
            yield response

    async def read(self) -> Any:
        """The next response, or grpc.aio.EOF."""
        return await self._take(self.inner.read())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call it with this call once it has ended."""
        self.inner.add_done_callback(lambda _: callback(self))

    def over(self) -> None:
        """GRPC is done with the call."""
        self._has_ended = True
        if not self._is_reading:
            _end(self._record, self.inner)

    async def _take(self, reading: Awaitable[Any]) -> Any:
        self._is_reading = True
        try:
            response = await reading
            if response is not grpc.aio.EOF:
                self._record.message_received(response)
            return response
        finally:
            self._is_reading = False
            if self._has_ended:
                _end(self._record, self.inner)


class ObservedUnaryStream(_ObservedStream, handing_on(grpc.aio.UnaryStreamCall)):  # type: ignore[misc]
    """Of one request."""


class ObservedStreamStream(_ObservedStream, handing_on(grpc.aio.StreamStreamCall)):  # type: ignore[misc]
    """Of many requests."""


def _observed(call: Call, outcome: Any) -> Any:
    """What gRPC gets for the call object of the call."""
    if not hasattr(outcome, "done"):  # an interceptor's own iterator
        return _Responses(call, outcome)
    observed = outcome
    if isinstance(outcome, grpc.aio.UnaryStreamCall):
        observed = ObservedUnaryStream(call, outcome)
    elif isinstance(outcome, grpc.aio.StreamStreamCall):
        observed = ObservedStreamStream(call, outcome)
    reference = weakref.ref(observed)  # held by its own callback, a dropped call would not be cancelled
    if outcome.done():
        _over(call, outcome, reference)
    else:
        loop = asyncio.get_running_loop()
        outcome.add_done_callback(lambda ended: _over_soon(call, ended, reference, loop))
    return observed


def _over_soon(call: Call, ended: Any, reference: Any, loop: asyncio.AbstractEventLoop) -> None:
    """End the record; of a cancelled call at the loop's next turn, when gRPC has set its status."""
    if ended.cancelled():
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_over, call, ended, reference)
            return
    _over(call, ended, reference)


def _over(call: Call, ended: Any, reference: Any) -> None:
    observed = reference()
    if isinstance(observed, _ObservedStream):
        observed.over()
    else:
        _end(call, ended)


class UnaryUnary(_Recording, grpc.aio.UnaryUnaryClientInterceptor):
    """Records unary calls."""

    kind = "unary"
    intercept_unary_unary: Any = _Recording.record


class UnaryStream(_Recording, grpc.aio.UnaryStreamClientInterceptor):
    """Records calls that answer with a stream."""

    kind = "server_stream"
    intercept_unary_stream: Any = _Recording.record


class StreamUnary(_Recording, grpc.aio.StreamUnaryClientInterceptor):
    """Records calls that send a stream."""

    kind = "client_stream"
    intercept_stream_unary: Any = _Recording.record


class StreamStream(_Recording, grpc.aio.StreamStreamClientInterceptor):
    """Records calls of two streams."""

    kind = "bidi_stream"
    intercept_stream_stream: Any = _Recording.record


def aio_client_interceptors(recorder: Recorder) -> list[grpc.aio.ClientInterceptor]:
    """The four of them."""
    return [kind(recorder) for kind in (UnaryUnary, UnaryStream, StreamUnary, StreamStream)]


_unsettled: set[asyncio.Future[None]] = set()  # a loop holds its tasks weakly


def _end(call: Call, ended: Any, awaited: bool = False) -> None:
    try:
        status = _now(ended.code()).name
        if _says_more(call, status) and not awaited:
            call.is_ending = True
            task = asyncio.ensure_future(_end_as_awaited(call, ended))
            _unsettled.add(task)
            task.add_done_callback(_unsettled.discard)
            return
        if status == "OK" and not call.method.streams_responses:
            call.message_received(_response(ended) if call.watches else None)
        call.end(status, _now(ended.details()) or "", trailers=tuple(_now(ended.trailing_metadata()) or ()))
    except Exception:
        call.fail("client")


def _says_more(call: Call, status: str) -> bool:
    """Whether the caller, who awaits the call, gets what the call does not have at its end.

    A write that fails makes it INTERNAL at first, and not the server's status; the response comes after OK.
    """
    if status == "OK":
        return call.watches and not call.method.streams_responses
    return status == "INTERNAL" and call.method.kind == "client_stream"


async def _end_as_awaited(call: Call, ended: Any) -> None:
    """End the record when whoever awaits the call has its end."""
    with suppress(grpc.RpcError, asyncio.CancelledError):
        await ended
    _end(call, ended, awaited=True)


def _response(ended: Any) -> Any:
    """The response of a call that has ended well; None when it has none to show."""
    try:
        return _now(ended.__await__())
    except Exception:
        return None


def _now(answer: Any) -> Any:
    """What an ended call answers: nothing is left to wait for."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    raise RuntimeError("the call has not ended")
