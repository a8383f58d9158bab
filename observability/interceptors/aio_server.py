"""The interceptor for grpc.aio.Server: each RPC has a task of its own, and so a context of its own."""

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from observability.call import Bound, Recorder
from observability.failures import Failures
from observability.interceptors.aio_sync import SyncMethod
from observability.interceptors.handlers import Handlers, WrappedHandler, behavior_of
from observability.interceptors.outcome import NAMES, deadline_left_s, lost_status, text

_rpc: contextvars.ContextVar["_Rpc"] = contextvars.ContextVar("rpc")
_metadata: contextvars.ContextVar[Any] = contextvars.ContextVar("metadata")


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """Records each call of an asyncio server. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder, failures: Failures) -> None:
        self._handlers = Handlers(recorder, lambda handler, bound: _Method(handler, bound).handler)
        self._failures = failures

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Give gRPC the recording handler. Runs in the RPC's own task."""
        handler = await continuation(handler_call_details)
        try:
            if handler is None:
                return self._handlers.unknown(handler_call_details.invocation_metadata)
            _metadata.set(handler_call_details.invocation_metadata)
            return self._handlers.wrapped(handler_call_details.method, handler)
        except Exception:
            self._failures.count("interceptor")
            return handler


class _Method:
    """A method of the server: its handler, recorded."""

    def __init__(self, handler: Any, bound: Bound) -> None:
        self._bound = bound
        self._behavior = behavior_of(handler)
        self._deserialize = handler.request_deserializer
        self._serialize = handler.response_serializer
        self._request_streaming = handler.request_streaming
        self._streaming = handler.response_streaming
        if inspect.isasyncgenfunction(self._behavior):
            serve: Any = self._serve_generator
        elif inspect.iscoroutinefunction(self._behavior):
            serve = self._serve
        else:
            serve = SyncMethod(handler, bound).serve
        self.handler = WrappedHandler(handler, serve, self._parsed, self._serialized)

    async def _serve(self, request: Any, context: Any) -> Any:
        rpc = self._begin(context)
        try:
            response = await self._behavior(request, context)
        except BaseException as error:
            rpc.fail(error)
            raise
        rpc.handler_done = True
        if self._streaming or not rpc.will_answer():
            rpc.complete()
        return response

    async def _serve_generator(self, request: Any, context: Any) -> AsyncIterator[Any]:
        rpc = self._begin(context)
        try:
            async for response in self._behavior(request, context):
                yield response
        except GeneratorExit:  # gRPC dropped the stream; its callback ends the record
            raise
        except BaseException as error:
            rpc.fail(error)
            raise
        rpc.complete()

    def _begin(self, context: Any) -> "_Rpc":
        rpc = _Rpc(self._bound, context)
        rpc.call.received = 0 if self._request_streaming else 1
        _rpc.set(rpc)
        return rpc

    def _parsed(self, data: bytes) -> Any:
        rpc = _rpc.get(None)
        try:
            request = self._deserialize(data) if self._deserialize else data
        except Exception as error:
            if rpc is None:
                self._bound.begin(_metadata.get(())).end("UNKNOWN", unexpected(error), error)
            raise
        if rpc is not None:
            rpc.call.received += 1
        return request

    def _serialized(self, response: Any) -> Any:
        rpc = _rpc.get(None)
        try:
            data = self._serialize(response) if self._serialize else response
        except Exception as error:
            if rpc is not None:
                rpc.fail(error)
            raise
        if rpc is not None:
            rpc.call.sent += 1
            if rpc.handler_done:
                rpc.complete()
        return data


class _Rpc:
    """One RPC of an asyncio server, from the start of its handler until gRPC is done with it."""

    def __init__(self, bound: Bound, context: Any) -> None:
        self._context = context
        self.handler_done = False
        metadata = context.invocation_metadata() or ()
        self.call = bound.begin(metadata, context.peer(), deadline_left_s(context))
        context.add_done_callback(lambda _: self._end(lost_status(context)))

    def will_answer(self) -> bool:
        """Whether gRPC will serialize the response, which may yet fail: it does so for OK alone."""
        return not self._is_late() and self._status("OK") == "OK"

    def _is_late(self) -> bool:
        """Whether the deadline passed while the handler ran: nobody waits for its response."""
        return deadline_left_s(self._context) == 0

    def complete(self) -> None:
        """The handler is done and did not raise: the status is what it set, or OK."""
        if self._is_late():
            self._end("DEADLINE_EXCEEDED")
        else:
            self._end(self._status("OK"), text(self._context.details()))

    def fail(self, error: BaseException) -> None:
        """The handler raised, was cancelled or aborted, or its response could not be serialized."""
        if isinstance(error, asyncio.CancelledError) or self._is_late():
            self._end(lost_status(self._context))
        elif isinstance(error, grpc.aio.AbortError):
            self._end(self._status("UNKNOWN"), text(self._context.details()))
        else:
            self._end(self._status("UNKNOWN"), unexpected(error), error)

    def _status(self, default: str) -> str:
        """What an asyncio server sends for the code that was set: a number goes out as it is."""
        code = self._context.code()
        if not code and not isinstance(code, grpc.StatusCode):
            return default
        return code.name if isinstance(code, grpc.StatusCode) else NAMES.get(code, "UNKNOWN")

    def _end(self, status: str, details: str = "", error: BaseException | None = None) -> None:
        self.call.end(status, details, error, self._context.trailing_metadata() or ())


def unexpected(error: BaseException) -> str:
    """The details that an asyncio server sends for an exception that nobody caught."""
    return f"Unexpected {type(error)}: {error}"
