"""The interceptor for grpc.Channel: the call objects of gRPC go to the caller as they are."""

import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
from grpc import _channel

from observability.call import Call, Recorder
from observability.contrib import Contrib
from observability.failures import Failures
from observability.interceptors.outcome import text

REQUEST_STREAMS = frozenset({"client_stream", "bidi_stream"})
THREADLESS = _channel._SingleThreadedRendezvous  # gRPC has no thread that would tell of its end


class CallDetails(NamedTuple):
    """What gRPC is told of a call, with the trace context among the metadata."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Records each call of a channel. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder, failures: Failures, contrib: Contrib) -> None:
        self._recorder, self._failures, self._contrib = recorder, failures, contrib

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Record a unary call."""
        return self._record("unary", continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Record a call that answers with a stream."""
        return self._record("server_stream", continuation, client_call_details, request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Record a call that sends a stream."""
        return self._record("client_stream", continuation, client_call_details, request_iterator)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Record a call of two streams."""
        return self._record("bidi_stream", continuation, client_call_details, request_iterator)

    def _record(self, kind: str, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        scope = contextvars.copy_context()  # the span is current in the call, never in the caller's code
        call = scope.run(self._begin, kind, details)
        if call is None:
            return continuation(details, request)
        request = _Requests(call, request) if kind in REQUEST_STREAMS else request
        try:
            outcome = scope.run(self._go_on, continuation, with_headers(details, call), request)
        except grpc.RpcError as error:
            _end(call, error)
            raise
        except BaseException as error:
            call.end("UNKNOWN", str(error), error)
            raise
        try:
            _follow(call, outcome)
        except Exception:
            self._failures.count("interceptor")
        return outcome

    def _begin(self, kind: str, details: Any) -> Call | None:
        try:
            bound = self._recorder.bind(path_of(details.method), kind)
            call = bound.begin(details.metadata or (), "", details.timeout)
        except Exception:
            self._failures.count("interceptor")
            return None
        if kind not in REQUEST_STREAMS:
            call.message("sent")
        return call

    def _go_on(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        with self._contrib.stands_back():
            return continuation(details, request)


def path_of(method: Any) -> str:
    """A method's path as text."""
    return method.decode(errors="replace") if isinstance(method, bytes) else str(method)


class _Requests(Iterator[Any]):
    """The caller's requests, counted as gRPC takes them."""

    def __init__(self, call: Call, requests: Any) -> None:
        self._call, self._requests = call, requests

    def __next__(self) -> Any:
        request = next(self._requests)
        self._call.message("sent")
        return request


@functools.cache
def _followed(kind: Any) -> type:
    """The class of a call object that tells the record of its messages and, if need be, of its being dropped.

    The object stays gRPC's own, to callers and to gRPC, and its life is as long as without the record.
    """

    def __next__(self: Any) -> Any:  # noqa: N807
        response = kind.__next__(self)
        self.observed.message("received")
        return response

    def __del__(self: Any) -> None:  # noqa: N807
        kind.__del__(self)
        _end(self.observed, self)

    more: dict[str, Any] = {"__next__": __next__, "next": __next__}
    if kind is THREADLESS:
        more["__del__"] = __del__
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__slots__": (), **more})


def _follow(call: Call, outcome: Any) -> None:
    """End the record when the call ends: read to the end, left, dropped or never looked at.

    A dropped object cancels its call, and then gRPC's thread tells: whoever drops it may be the garbage
    collector, in the midst of anything, which is no place to write metrics and log lines.
    """
    if hasattr(type(outcome), "__del__") and not outcome.done():
        outcome.observed = call
        outcome.__class__ = _followed(type(outcome))  # type: ignore[arg-type]
        state = outcome._state  # the object may be gone by then
        if outcome.add_callback(lambda: _end_as(call, state.code, state.details, state.trailing_metadata)):
            return
    if outcome.done():
        _end(call, outcome)
    else:
        outcome.add_done_callback(lambda ended: _end(call, ended))


def with_headers(details: Any, call: Call) -> CallDetails:
    """The call's details with the headers of the signals; the caller's metadata object stays as it is."""
    return CallDetails(
        details.method,
        details.timeout,
        merged(details.metadata, call),
        getattr(details, "credentials", None),
        getattr(details, "wait_for_ready", None),
        getattr(details, "compression", None),
    )


def merged(metadata: Any, call: Call) -> list[tuple[str, str | bytes]]:
    """The caller's metadata and the signals' headers, which replace what the caller has of the same keys."""
    own = {key for key, _ in call.headers}
    return [(key, value) for key, value in metadata or () if key not in own] + call.headers


def _end(call: Call, ended: Any) -> None:
    _end_as(call, ended.code(), ended.details(), ended.trailing_metadata())


def _end_as(call: Call, code: Any, details: str | bytes | None, trailers: Any) -> None:
    status = code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
    if status == "OK" and not call.method.streams_responses:
        call.message("received")
    call.end(status, text(details), trailers=trailers or ())
