"""The interceptor for grpc.Channel: the call objects of gRPC go to the caller as they are."""

import contextvars
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from observability.call import Call, Recorder
from observability.interceptors.outcome import text


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

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

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
        bound = self._recorder.bind(details.method, kind)
        call = scope.run(bound.begin, (), "", details.timeout)
        try:
            outcome = scope.run(continuation, with_headers(details, call), request)
        except BaseException as error:
            call.end("UNKNOWN", str(error), error)
            raise
        outcome.add_done_callback(lambda ended: _end(call, ended))
        return outcome


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
    code = ended.code()
    status = code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
    if call.method.kind == "unary":
        call.sent, call.received = 1, int(status == "OK")
    call.end(status, text(ended.details()), trailers=ended.trailing_metadata() or ())
