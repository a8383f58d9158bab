"""The interceptor for grpc.aio.Server: each RPC has a task of its own, and so a context of its own."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from observability.call import Bound, Call, Recorder
from observability.contrib import Contrib
from observability.failures import Failures
from observability.interceptors.aio_sync import SYNC_RPCS
from observability.interceptors.handlers import Handlers, attempts, behavior_of, for_kinds, kind_of
from observability.interceptors.outcome import NAMES, deadline_left_s, lost_status, text, unexpected

TURNS = 4


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """Records each call of an asyncio server. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder, failures: Failures, contrib: Contrib) -> None:
        self._handlers = Handlers(recorder, failures, _rpc_for)
        self._contrib = contrib

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Give gRPC the recording handler. Runs in the RPC's own task."""
        if self._contrib.is_loaded():
            with self._contrib.stands_back():
                handler = await continuation(handler_call_details)
        else:
            handler = await continuation(handler_call_details)
        return self._handlers.observed(handler_call_details, handler)


class AioServerRpc(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """Stands for the handler in one RPC, in the RPC's own task."""

    request_streaming: bool
    response_streaming: bool

    def __init__(self, handler: Any, behavior: Any, bound: Bound, metadata: Any) -> None:
        self._handler, self._behavior, self._bound, self._metadata = handler, behavior, bound, metadata
        self._call: Call | None = None
        self._context: Any = None  # and the call are there once the handler has begun
        self._is_served = False

    async def serve(self, request: Any, context: Any) -> Any:
        """Serve an RPC by an async function, which returns a response or writes many."""
        self._begin(context)
        try:
            response = await self._behavior(request, context)
            if self.request_streaming:
                await self._look_for_cancellation()
        except BaseException as error:
            self._fail(error)
            raise
        self._is_served = True
        if self.response_streaming or not self._will_answer():
            self._complete()
        return response

    async def serve_generator(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Serve an RPC by an async generator."""
        self._begin(context)
        try:
            async for response in self._behavior(request, context):
                yield response
            if self.request_streaming:
                await self._look_for_cancellation()
        except GeneratorExit:  # gRPC dropped the stream; its callback ends the record
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._complete()

    def request_deserializer(self, data: bytes) -> Any:
        """Parse a request; of a first one that fails, the handler will not hear."""
        parse = self._handler.request_deserializer
        try:
            request = parse(data) if parse else data
        except Exception as error:
            if self._call is None:
                self._bound.begin(self._metadata).end("UNKNOWN", unexpected(error), error)
            raise
        if self._call is not None:
            self._call.message("received")
        return request

    def response_serializer(self, response: Any) -> Any:
        """Serialize a response."""
        serialize = self._handler.response_serializer
        try:
            data = serialize(response) if serialize else response
        except Exception as error:
            self._fail(error)
            raise
        if self._call is not None:
            self._call.message("sent")
            if self._is_served:
                self._end("OK", text(self._context.details()))
        return data

    def _begin(self, context: Any) -> None:
        self._context, self._task = context, asyncio.current_task()
        self._call = self._bound.begin(
            self._metadata, context.peer(), deadline_left_s(context), None, attempts(self._metadata)
        )
        if not self.request_streaming:
            self._call.message("received")
        context.add_done_callback(self._closed)

    async def _look_for_cancellation(self) -> None:
        """A client that cancels may look, to a handler that reads requests, like one that has sent them all.

        The cancellation itself is then a few turns of the loop behind.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _will_answer(self) -> bool:
        """Whether gRPC will serialize the response, which may yet fail: it does so for OK alone."""
        return self._status("OK") == "OK" and not (self._call and self._call.is_late)

    def _complete(self) -> None:
        """The handler is done and did not raise: the status is what it set, or OK."""
        if self._call and self._call.is_late:  # nobody waits for its response
            self._end("DEADLINE_EXCEEDED")
        else:
            self._end(self._status("OK"), text(self._context.details()))

    def _fail(self, error: BaseException) -> None:
        """The handler raised, was cancelled or aborted, or its response could not be serialized."""
        if isinstance(error, asyncio.CancelledError) or (self._call and self._call.is_late):
            self._end(lost_status(self._context))
        elif isinstance(error, grpc.aio.AbortError):
            self._end(self._status("UNKNOWN"), text(self._context.details()))
        else:
            status = self._status("UNKNOWN")
            self._end("UNKNOWN" if status == "OK" else status, unexpected(error), error)

    def _closed(self, context: Any) -> None:
        if self._call and not self._call.has_ended:
            self._find_out(context)
        self._context = None  # it holds this callback: a circle that only the collector would undo

    def _find_out(self, context: Any) -> None:
        status = self._status("OK")
        if status == "OK" or (self._task is not None and self._task.cancelling()):
            self._end(lost_status(context))
        else:  # it aborted, and did not let that stop it
            self._end(status, text(context.details()))

    def _status(self, default: str) -> str:
        """What an asyncio server sends for the code that was set: a number goes out as it is."""
        code = self._context.code()
        if not code and not isinstance(code, grpc.StatusCode):
            return default
        return code.name if isinstance(code, grpc.StatusCode) else NAMES.get(code, "UNKNOWN")

    def _end(self, status: str, details: str = "", error: BaseException | None = None) -> None:
        if self._call is not None:
            trailers = () if status == "OK" else self._context.trailing_metadata()
            self._call.end(status, details, error, trailers or ())


_FUNCTIONS = for_kinds(AioServerRpc, AioServerRpc.serve, AioServerRpc.serve)
_GENERATORS = for_kinds(AioServerRpc, AioServerRpc.serve, AioServerRpc.serve_generator)


def _rpc_for(handler: Any) -> Any:
    behavior = behavior_of(handler)
    if inspect.isasyncgenfunction(behavior):
        rpcs = _GENERATORS
    elif inspect.iscoroutinefunction(behavior):
        rpcs = _FUNCTIONS
    else:
        rpcs = SYNC_RPCS
    return rpcs[kind_of(handler)]
