"""The interceptor for grpc.Server: its handlers run on threads, and a callback tells that an RPC is over."""

import contextvars
import functools
import time
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

import grpc

from observability.call import Bound, Call, Recorder
from observability.contrib import Contrib
from observability.failures import Failures
from observability.interceptors.handlers import (
    Handlers,
    WrappedHandler,
    attempts,
    behavior_of,
    for_kinds,
    kind_of,
)
from observability.interceptors.outcome import deadline_left_s, is_abort, lost_status, note_cancel, text

UNPARSABLE = "Exception deserializing request!"
UNSERIALIZABLE = "Failed to serialize response!"
THREAD_POOL = "experimental_thread_pool"
_END = object()


class ServerInterceptor(grpc.ServerInterceptor):
    """Records each call of a server. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder, failures: Failures, contrib: Contrib) -> None:
        self._handlers = Handlers(recorder, failures, _rpc_for)
        self._contrib = contrib

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Give gRPC the recording handler. Runs on the server's one polling thread: no slow work here."""
        with self._contrib.stands_back():
            handler = continuation(handler_call_details)
        scope = contextvars.copy_context()
        return scope.run(self._handlers.observed, handler_call_details, handler)


class ServerRpc(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """Stands for the handler in one RPC, from its arrival until gRPC is done with it."""

    request_streaming: bool
    response_streaming: bool

    def __init__(self, handler: Any, behavior: Any, bound: Bound, metadata: Any) -> None:
        self._arrived_ns = time.perf_counter_ns()
        self._handler, self._behavior, self._bound, self._metadata = handler, behavior, bound, metadata
        self._requests: Iterator[Any] | None = None
        self._unparsed: Exception | None = None
        self._said: tuple[str, str] | None = None
        self._in_handler = False
        self._call: Call | None = None
        self._context: Any = None

    def serve_unary(self, request: Any, context: Any) -> Any:
        """Serve an RPC of one response."""
        self._begin(request, context)
        return self.run(self._behavior, request, self._context)

    def serve_stream(self, request: Any, context: Any) -> Iterator[Any]:
        """Serve an RPC of many responses."""
        self._begin(request, context)
        return _Responses(self, self.run(self.stream, request))

    def stream(self, request: Any) -> Any:
        """The handler's responses, an iterator."""
        return self._behavior(request, self._context)

    def request_deserializer(self, data: bytes) -> Any:
        """Parse a request, on a thread of gRPC's; of one that fails, gRPC itself tells the client."""
        parse = self._handler.request_deserializer
        try:
            request = parse(data) if parse else data
        except Exception as error:
            self._unparsed = error
            if not self.request_streaming:  # the handler will not be called
                self._call = contextvars.copy_context().run(self._bound.begin, self._metadata)
                self.end(*self.unparsable(error), error)
            raise
        if self.request_streaming and self._call is not None:
            self._call.message("received")
        return request

    def response_serializer(self, response: Any) -> Any:
        """Serialize a response, on the thread that just ran the handler."""
        serialize = self._handler.response_serializer
        try:
            data = serialize(response) if serialize else response
        except Exception as error:
            self.end(*self.unserializable(error), error)
            raise
        if self._call is not None:
            self._call.message("sent")
        if not self.response_streaming:
            self.complete()
        return data

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a piece of the handler with the call's span as the current one."""
        self._in_handler = True
        try:
            return self._scope.run(function, *arguments)
        except Exception as error:
            self._fail(error)
            raise
        finally:  # a SystemExit leaves the RPC open in gRPC: the callback ends it
            self._in_handler = False
            if not self._context.is_active() or deadline_left_s(self._context) == 0:
                self.end(lost_status(self._context))

    def complete(self) -> None:
        """The handler is done and did not raise: the status is what it set, or OK."""
        self._said = self.status("OK"), text(self._context.details())
        if not self.is_told_later():
            self.end(*self._said)

    def is_told_later(self) -> bool:
        """Whether what the handler said holds only when gRPC is done with the RPC.

        To a handler that reads requests, a client that cancels may look like one that has sent them all.
        """
        return self.request_streaming

    def unparsable(self, error: Exception) -> tuple[str, str]:  # noqa: ARG002 (gRPC's words say nothing of it)
        """Status and details when a request cannot be parsed."""
        return "INTERNAL", UNPARSABLE

    def unserializable(self, error: Exception) -> tuple[str, str]:  # noqa: ARG002
        """Status and details when a response cannot be serialized."""
        return self.status("INTERNAL"), UNSERIALIZABLE

    def status(self, default: str) -> str:
        """What a threaded server sends for the code that was set: UNKNOWN for anything but a StatusCode."""
        code = self._context.code()
        if code is None:
            return default
        return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"

    def end(self, status: str, details: str = "", error: BaseException | None = None) -> None:
        """End the record."""
        if self._unparsed is not None and self.request_streaming:
            status, details = self.unparsable(self._unparsed)
            error = self._unparsed
        if getattr(self._context, "was_cancelled", False):
            status, details, error = "CANCELLED", "", None
        if self._call is not None:
            trailers = () if self._context is None or status == "OK" else self._context.trailing_metadata()
            self._call.end(status, details, error, trailers or ())

    def _begin(self, request: Any, context: Any) -> None:
        self._context = self.seen(context)
        self._scope = contextvars.copy_context()
        self._call = self._scope.run(
            self._bound.begin,
            self._metadata,
            self.peer(context),
            deadline_left_s(context),
            self.queued_s(),
            attempts(self._metadata),
        )
        if self.request_streaming:
            self._requests = request
        else:
            self._call.message("received")
        self.watch()

    def in_scope(self, function: Callable[..., Any]) -> Any:
        """Call with the call's span as the current one."""
        return self._scope.run(function)

    def peer(self, context: Any) -> str:
        """The client's address."""
        return str(context.peer())

    def seen(self, context: Any) -> Any:
        """The context that the handler sees."""
        note_cancel(context)
        return context

    def queued_s(self) -> float | None:
        """How long the RPC waited for a thread."""
        return (time.perf_counter_ns() - self._arrived_ns) / 1e9

    def _fail(self, error: Exception) -> None:
        if not self._context.is_active():
            return self.end(lost_status(self._context))
        said = self._context.details()
        details = f"Exception calling application: {error}" if said is None else text(said)
        return self.end(self.status("UNKNOWN"), details, None if is_abort(error) else error)

    def watch(self) -> None:
        """Hear of the end of the RPC."""
        self._context.add_callback(self.closed)

    def closed(self) -> None:
        """GRPC is done with the RPC."""
        if self._in_handler:
            return
        if self._said is None or self.is_cancelled():
            self.end(lost_status(self._context))
        else:
            self.end(*self._said)

    def is_cancelled(self) -> bool:
        """Whether the client cancelled; the requests of an RPC that is over tell, by how they end."""
        try:
            next(self._requests or iter(()), None)
        except grpc.RpcError:
            return True
        return False


class _Responses(Iterator[Any]):
    """The handler's responses, each made with the call's span as the current one."""

    def __init__(self, rpc: ServerRpc, responses: Any) -> None:
        self._rpc, self._responses = rpc, responses

    def __next__(self) -> Any:
        response = self._rpc.run(next, self._responses, _END)
        if response is _END or response is None:  # gRPC takes None for the end, too
            self._rpc.complete()
            raise StopIteration
        return response

    def __del__(self) -> None:
        if isinstance(self._responses, GeneratorType):  # what it does at its close is part of the call
            self._rpc.in_scope(self._responses.close)


_RPCS = for_kinds(ServerRpc, ServerRpc.serve_unary, ServerRpc.serve_stream)


def _rpc_for(handler: Any) -> Any:
    behavior = behavior_of(handler)
    if getattr(behavior, "experimental_non_blocking", False):
        return None
    rpc = _RPCS[kind_of(handler)]
    pool = getattr(behavior, THREAD_POOL, None)
    return rpc if pool is None else functools.partial(_on_pool, rpc, pool)


def _on_pool(rpc: Any, pool: Any, handler: Any, behavior: Any, bound: Bound, metadata: Any) -> Any:
    """gRPC looks for a handler's own thread pool on its behavior."""
    made = rpc(handler, behavior, bound, metadata)
    serve = functools.partial(behavior_of(made))
    setattr(serve, THREAD_POOL, pool)
    return WrappedHandler(made, serve)
