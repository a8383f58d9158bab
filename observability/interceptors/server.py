"""The interceptor for grpc.Server: its handlers run on threads, and a callback tells that an RPC is over."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from observability.call import Bound, Recorder
from observability.failures import Failures
from observability.interceptors.handlers import Handlers, Unparsable, WrappedHandler, behavior_of
from observability.interceptors.outcome import deadline_left_s, lost_status, text

UNPARSABLE = "Exception deserializing request!"
UNSERIALIZABLE = "Failed to serialize response!"
_END = object()


class ServerInterceptor(grpc.ServerInterceptor):
    """Records each call of a server. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder, failures: Failures) -> None:
        self._handlers = Handlers(recorder, lambda handler, bound: _Method(handler, bound).handler)
        self._failures = failures

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Give gRPC the recording handler. Runs on the server's one polling thread: no slow work here."""
        handler = continuation(handler_call_details)
        try:
            if handler is None:
                unknown = self._handlers.unknown
                return contextvars.copy_context().run(unknown, handler_call_details.invocation_metadata)
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
        self._streaming = handler.response_streaming
        self._thread = threading.local()  # gRPC serializes on the thread that just ran the handler
        deserializer = handler.request_deserializer if handler.request_streaming else self._parsed
        serve = self._serve_stream if handler.response_streaming else self._serve_unary
        wrapped = WrappedHandler(handler, serve, deserializer, self._serialized)
        passed_by = getattr(self._behavior, "experimental_non_blocking", False)
        self.handler = handler if passed_by else wrapped

    def _serve_unary(self, request: Any, context: Any) -> Any:
        rpc, request = self._begin(request, context)
        response = rpc.run(self._behavior, request, context)
        self._thread.rpc = rpc
        return response

    def _serve_stream(self, request: Any, context: Any) -> Iterator[Any]:
        rpc, request = self._begin(request, context)
        responses = rpc.run(self._behavior, request, context)
        return Responses(rpc, responses, self._thread)

    def _begin(self, request: Any, context: Any) -> tuple["Rpc", Any]:
        rpc = Rpc(self._bound, context)
        if isinstance(request, Unparsable):
            rpc.end("INTERNAL", UNPARSABLE, request.error)
            context.abort(grpc.StatusCode.INTERNAL, UNPARSABLE)
        if isinstance(request, Iterator):
            return rpc, _Requests(rpc, request)
        rpc.call.received = 1
        return rpc, request

    def _parsed(self, data: bytes) -> Any:
        try:
            return self._deserialize(data) if self._deserialize else data
        except Exception as error:
            return Unparsable(error)

    def _serialized(self, response: Any) -> Any:
        rpc: Rpc | None = self._thread.__dict__.pop("rpc", None)
        try:
            data = self._serialize(response) if self._serialize else response
        except Exception as error:
            if rpc:
                rpc.end("INTERNAL", UNSERIALIZABLE, error)
            raise
        if rpc:
            rpc.call.sent += 1
            if not self._streaming:
                rpc.complete()
        return data


class Rpc:
    """One RPC of a threaded server, from the start of its handler until gRPC is done with it."""

    def __init__(self, bound: Bound, context: Any) -> None:
        self._context = context
        self._scope = contextvars.copy_context()
        metadata = context.invocation_metadata() or ()
        self.call = self._scope.run(bound.begin, metadata, context.peer(), deadline_left_s(context))
        self._in_handler = False
        context.add_callback(self._closed)

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
        self.end(_status(self._context, "OK"), text(self._context.details()))

    def end(self, status: str, details: str = "", error: BaseException | None = None) -> None:
        """End the call's record."""
        self.call.end(status, details, error, self._context.trailing_metadata() or ())

    def _fail(self, error: Exception) -> None:
        if not self._context.is_active():
            return self.end(lost_status(self._context), error=error)
        said = self._context.details()
        details = f"Exception calling application: {error}" if said is None else text(said)
        return self.end(_status(self._context, "UNKNOWN"), details, None if _is_abort(error) else error)

    def _closed(self) -> None:
        if not self._in_handler:
            self.end(lost_status(self._context))


class _Requests(Iterator[Any]):
    """The handler's requests, counted."""

    def __init__(self, rpc: Rpc, requests: Iterator[Any]) -> None:
        self._rpc, self._requests = rpc, requests

    def __next__(self) -> Any:
        request = next(self._requests)
        self._rpc.call.received += 1
        return request


class Responses(Iterator[Any]):
    """The handler's responses, each made with the call's span as the current one."""

    def __init__(self, rpc: Rpc, responses: Any, thread: threading.local) -> None:
        self._rpc, self._responses, self._thread = rpc, responses, thread

    def __next__(self) -> Any:
        response = self._rpc.run(next, self._responses, _END)
        if response is _END or response is None:  # gRPC takes None for the end, too
            self._rpc.complete()
            raise StopIteration
        self._thread.rpc = self._rpc
        return response


def _status(context: Any, default: str) -> str:
    """What a threaded server sends for the code that was set: anything but a StatusCode becomes UNKNOWN."""
    code = context.code()
    if code is None:
        return default
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def _is_abort(error: Exception) -> bool:
    """Whether context.abort raised it: a bare Exception, told only by where it comes from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return isinstance(error, grpc.aio.AbortError) or (
        type(error) is Exception
        and trace is not None
        and trace.tb_frame.f_code.co_name == "abort"
        and trace.tb_frame.f_globals.get("__name__") == "grpc._server"
    )
