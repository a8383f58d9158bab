"""The interceptor for grpc.aio.Server: each RPC has its own task, and so its own context."""

import asyncio
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from observability.call import Method
from observability.grpc.aio_sync import SyncRpc
from observability.grpc.handlers import Handlers, Rpc, behavior_of, kind_of, of_kind
from observability.grpc.outcome import (
    End,
    Outcome,
    Raised,
    aio_outcome,
    aio_status,
    deadline_left_s,
    unexpected,
)
from observability.grpc.recorder import Recorder

TURNS = 4

logger = logging.getLogger(__name__)


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """Records each call of an asyncio server. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._handlers = Handlers(recorder, self._choose)
        self._has_warned = False

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Give gRPC the recording handler, in the RPC's own task; a threaded server has none."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._warn()
            return continuation(handler_call_details)
        return self._intercept(continuation, handler_call_details)

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.error(
                "aio_server_interceptors() must go to grpc.aio.server, got grpc.server: nothing is recorded"
            )

    async def _intercept(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        try:
            if self._recorder.contrib.is_loaded():
                with self._recorder.contrib.kept_out():
                    handler = await continuation(handler_call_details)
            else:
                handler = await continuation(handler_call_details)
        except Exception as error:
            self._handlers.failed(handler_call_details, unexpected(error), error)
            raise
        return self._handlers.observed(handler_call_details, handler)

    def _choose(self, handler: Any) -> Any:
        behavior = behavior_of(handler)
        rpc: type[Rpc] = AioServerRpc
        if inspect.isasyncgenfunction(behavior):
            serve: Any = AioServerRpc.serve_generator
        elif inspect.iscoroutinefunction(behavior):
            serve = AioServerRpc.serve
        else:
            rpc = SyncRpc
            serve = SyncRpc.serve_stream if handler.response_streaming else SyncRpc.serve_unary
        return functools.partial(of_kind(rpc, kind_of(handler), serve), self._recorder)


class AioServerRpc(Rpc):
    """One RPC that an async function or generator serves, in the RPC's own task."""

    _context: Any = None
    _scope: Context | None = None
    _unparsed: Exception | None = None
    _raised: Raised | None = None
    _was_lost = False
    _is_watched = False
    _is_served = False

    def __init__(
        self, recorder: Recorder, handler: Any, behavior: Any, method: Method, metadata: Any
    ) -> None:
        self.recorder = recorder
        self._handler = handler
        self._behavior = behavior
        self.method = method
        self._metadata = metadata
        self._task = asyncio.current_task()

    async def serve(self, request: Any, context: Any) -> Any:
        """Serve an RPC by an async function, which returns a response or writes many."""
        self._guard(self._begin, request, context)
        token = otel_context.attach(self._scope) if self._scope is not None else None
        try:
            response = await self._behavior(request, context)
            if self.request_streaming:
                await self._look_for_cancellation()
        except BaseException as error:
            self._guard(self._note, error)
            raise
        finally:
            if token is not None:
                otel_context.detach(token)
        self._guard(self._served)
        return response

    async def serve_generator(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Serve an RPC by an async generator."""
        self._guard(self._begin, request, context)
        if self._scope is not None:
            otel_context.attach(self._scope)  # for good: the task ends with the RPC
        try:
            async for response in self._behavior(request, context):
                yield response
            if self.request_streaming:
                await self._look_for_cancellation()
        except GeneratorExit:  # gRPC dropped the stream; its callback ends the record
            raise
        except BaseException as error:
            self._guard(self._note, error)
            raise
        self._guard(self._served)

    def request_deserializer(self, data: bytes) -> Any:
        """Parse a request; the handler will not hear of a first one that fails."""
        parse = self._handler.request_deserializer
        try:
            request = parse(data) if parse else data
        except Exception as error:
            if self._call is None:
                self._unparsed = error
                self._guard(self._refuse, Outcome("UNKNOWN", unexpected(error), error))
            raise
        if self._call is not None:
            self._call.message_received(request)
        return request

    def response_serializer(self, response: Any) -> Any:
        """Serialize a response."""
        serialize = self._handler.response_serializer
        try:
            data = serialize(response) if serialize else response
        except Exception as error:
            self._guard(self._note, error)
            raise
        if self._call is not None:
            self._call.message_sent(response)
            if not self.response_streaming:  # gRPC serializes the one response for OK alone
                self._raised = None  # an interceptor outside of ours made a response of it
                self._is_served = True
                self._finish()
        return data

    def _begin(self, request: Any, context: Any) -> None:
        self._context = context
        self._start(context.peer(), deadline_left_s(context))
        if not self.request_streaming and self._call is not None:
            self._call.message_received(request)
        if self.request_streaming or self.response_streaming:
            self._watch()

    def _watch(self) -> None:
        """Ask for a callback at the end. It makes a circle of references, which most RPCs do without."""
        self._is_watched = True
        self._context.add_done_callback(self._closed)

    def _start(self, peer: str = "", deadline_s: float | None = None) -> None:
        self._call, self._scope = self.recorder.begin(self.method, self._metadata, peer, deadline_s)

    async def _look_for_cancellation(self) -> None:
        """A client that cancels may look, to a handler that reads requests, like one that has sent them all.

        The cancellation itself is then a few turns of the loop behind.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _served(self) -> None:
        self._is_served = True
        if self._call is not None:
            self._call.is_ending = True
            self._was_lost = self._call.is_late  # nobody waits for its response
        if not self._is_watched and aio_status(self._context.code(), "OK") != "OK":
            self._watch()

    def _note(self, error: BaseException) -> None:
        """The handler raised, was cancelled or aborted, or its response could not be serialized."""
        context = self._context
        if self._call is not None:
            self._call.is_ending = True
        if isinstance(error, asyncio.CancelledError) or (self._call is not None and self._call.is_late):
            self._was_lost = True
        else:
            aborted = isinstance(error, grpc.aio.AbortError)
            self._raised = Raised(error, context.code(), context.details(), aborted)
        if not self._is_watched:
            self._watch()

    def _closed(self, _: Any) -> None:
        """GRPC is done with the RPC."""
        self._finish()

    def _finish(self) -> None:
        """End the record with what is known now."""
        self._guard(self._conclude)
        self._context = self._task = None  # they hold this RPC: only the collector would undo that circle

    def _conclude(self) -> None:
        self._end(self._outcome())

    def _outcome(self) -> Outcome:
        context, is_served = self._context, self._is_served
        is_gone = self._was_lost or (self._raised is None and self._is_left())
        left_s = None if is_served and not is_gone else deadline_left_s(context)
        return aio_outcome(End(context.code(), context.details(), left_s, self._raised, is_served, is_gone))

    def _is_left(self) -> bool:
        """Whether nobody waits for it any more."""
        was_cancelled = self._task is not None and self._task.cancelling()
        return bool(was_cancelled or (self._call is not None and self._call.is_late))

    def _end(self, outcome: Outcome) -> None:
        if self._call is not None:
            trailers: Any = ()
            if self._context is not None and outcome.status != "OK":
                trailers = self._context.trailing_metadata() or ()
            self._call.end(outcome.status, outcome.details, outcome.error, trailers)

    def __del__(self) -> None:
        """Of an RPC that was refused before its handler was called, nothing else is heard."""
        if self._call is None and self._unparsed is None and self._context is None:
            self._guard(self._refuse, self._refusal())
        elif self._is_served and not self._is_watched:
            self._guard(self._conclude)  # an interceptor outside of ours replaced the handler's response

    def _refuse(self, outcome: Outcome) -> None:
        self._start()
        self._end(outcome)

    def _refusal(self) -> Outcome:
        """A task that is cancelled waited for a request that never came; gRPC refuses others at once."""
        if self._task is not None and self._task.cancelling():
            return Outcome("DEADLINE_EXCEEDED")
        return Outcome("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
