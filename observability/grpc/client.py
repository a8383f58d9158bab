"""The interceptor for grpc.Channel: one record a call, which ends when gRPC reports how the call ended."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from observability.call import Call
from observability.grpc.outcome import text
from observability.grpc.recorder import Recorder
from observability.handing_on import handing_on
from observability.journal import Journal

REQUEST_STREAMS = frozenset({"client_stream", "bidi_stream"})


class CallDetails(NamedTuple):
    """What gRPC is asked for, with the trace context among the metadata."""

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
        if not is_instrumentation_enabled() or is_recorded(self._recorder, details, Recorded):
            return continuation(details, request)
        details = with_metadata(details, tuple(details.metadata or ()))  # it may be a generator
        call, scope = begin(self._recorder, kind, details, request)
        if call is None:
            return continuation(details, request)
        request = Requests(call, request) if kind in REQUEST_STREAMS else request
        token = otel_context.attach(scope) if scope is not None else None
        try:
            sent = Recorded(merged(details.metadata, call))
            mark(sent, self._recorder, details)
            outcome = self._go_on(continuation, with_metadata(details, sent), request)
        except BaseException as error:
            end_raised(call, error)
            raise
        finally:
            if token is not None:
                otel_context.detach(token)  # the span is current in the call, never in the caller's code
        try:
            return _observed(call, outcome)
        except Exception:
            call.fail("client")
            return outcome

    def _go_on(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        if not self._recorder.contrib.is_loaded():
            return continuation(details, request)
        with self._recorder.contrib.kept_out():
            return continuation(details, request)


def begin(recorder: Recorder, kind: str, details: Any, request: Any) -> tuple[Call | None, Context | None]:
    """Start the record of a client's call; None when that fails, which is counted."""
    try:
        path = details.method
        path = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
        call, scope = recorder.begin(
            recorder.method(path, kind), details.metadata, deadline_s=details.timeout
        )
    except Exception:
        recorder.tally.failure("client")
        return None, None
    if kind not in REQUEST_STREAMS:
        call.message_sent(request)
    return call, scope


class Requests(Iterator[Any]):
    """The caller's requests, counted as gRPC takes them."""

    def __init__(self, call: Call, requests: Any) -> None:
        self._call = call
        self._requests = requests

    def __next__(self) -> Any:
        request = next(self._requests)
        self._call.message_sent(request)
        return request


class ObservedCall(handing_on(grpc.RpcError, grpc.Call, grpc.Future)):  # type: ignore[misc]
    """What the caller gets for a call that has not ended: all that gRPC's call object has, handed on to it.

    It counts the responses as they are taken, and ends the record of a call that is dropped: dropping it
    drops gRPC's object, which cancels the call, as without us.
    """

    def __init__(self, record: Call, inner: Any) -> None:
        super().__init__()
        self._record = record
        self.inner = inner
        self._is_reading = False
        self._is_over = False

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        self._is_reading = True
        try:
            response = next(self.inner)
            self._record.message_received(response)
            return response
        except StopIteration:
            end_as(self._record, self.inner)
            raise
        finally:
            self._is_reading = False
            if self._is_over:
                end_as(self._record, self.inner)

    def next(self) -> Any:
        """The next response."""
        return self.__next__()

    def add_done_callback(self, fn: Callable[[Any], None]) -> Any:
        """Call fn with this call once it has ended."""
        return self.inner.add_done_callback(lambda _: fn(self))

    def __del__(self) -> None:
        if not self._record.has_ended:
            is_active = getattr(self.inner, "is_active", None)
            if is_active is not None and is_active():
                self._record.end("CANCELLED")
            else:
                end_as(self._record, self.inner)

    def over(self) -> None:
        """GRPC is done with the call. A response that is being taken at this moment counts, too."""
        self._is_over = True
        if not self._is_reading:
            end_as(self._record, self.inner)


class _Responses(Iterator[Any]):
    """An interceptor's own iterator instead of a call object: it has no status but how it ends."""

    def __init__(self, record: Call, inner: Any) -> None:
        self._record = record
        self._inner = inner

    def __next__(self) -> Any:
        try:
            response = next(self._inner)
        except StopIteration:
            self._record.end("OK")
            raise
        except BaseException as error:
            end_raised(self._record, error)
            raise
        self._record.message_received(response)
        return response

    def close(self) -> None:
        """Leave a generator early."""
        self._record.end("CANCELLED")
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        self._record.end("CANCELLED")


def _observed(call: Call, outcome: Any) -> Any:
    """What the caller gets: gRPC's object of a unary call that has ended, else one that looks on."""
    if not hasattr(outcome, "code"):
        return _Responses(call, outcome)
    done = getattr(outcome, "done", None)
    if done is not None and done() and not call.method.streams_responses:
        end_as(call, outcome)
        return outcome
    observed = ObservedCall(call, outcome)
    reference = weakref.ref(observed)  # held by its own callback, it would never be dropped
    add_callback = getattr(outcome, "add_callback", None)
    if add_callback is not None:
        if not add_callback(lambda: _over(reference)):
            observed.over()
    elif done is not None:
        outcome.add_done_callback(lambda _: _over(reference))
    return observed


def _over(reference: "weakref.ref[ObservedCall]") -> None:
    if (observed := reference()) is not None:
        try:
            observed.over()
        except Exception:  # on gRPC's thread, which would end
            observed._record.fail("client")


def with_metadata(details: Any, metadata: Any) -> CallDetails:
    """The call's details with this metadata; the caller's object stays as it is."""
    return CallDetails(
        details.method,
        details.timeout,
        metadata,
        getattr(details, "credentials", None),
        getattr(details, "wait_for_ready", None),
        getattr(details, "compression", None),
    )


class Recorded(list[tuple[str, str | bytes]]):
    """The metadata of a call that is recorded: whose journal has it, and which method it is of."""

    journal: Journal
    path: str | bytes


def merged(metadata: Any, call: Call) -> list[tuple[str, str | bytes]]:
    """The caller's metadata and the call's headers, which replace what the caller has of the same keys."""
    own = {key for key, _ in call.headers}
    return [*((key, value) for key, value in metadata if key not in own), *call.headers]


def mark(metadata: Any, recorder: Recorder, details: Any) -> None:
    """Note on a call's metadata that it is recorded."""
    metadata.journal = recorder.journal
    metadata.path = details.method


def is_recorded(recorder: Recorder, details: Any, kind: type[Any]) -> bool:
    """Whether an outer interceptor records the call already, as far as those between leave its metadata.

    kind is the class of a recorded call's metadata, which may also be handed on to another call.
    """
    metadata = details.metadata
    return type(metadata) is kind and metadata.path == details.method and recorder.is_double(metadata.journal)


def end_as(call: Call, ended: Any) -> None:
    """End the record as a call object or an RpcError says."""
    try:
        code = ended.code()
        status = code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
        if status == "OK" and not call.method.streams_responses:
            call.message_received(_response(ended) if call.watches else None)
        call.end(status, text(ended.details()), trailers=ended.trailing_metadata() or ())
    except Exception:
        call.fail("client")


def _response(ended: Any) -> Any:
    """The response of a unary call that has ended well; None when it has none to show."""
    try:
        return ended.result()
    except Exception:
        return None


def end_raised(call: Call, error: BaseException) -> None:
    """End the record of a call that raised instead of returning a call object."""
    if isinstance(error, grpc.RpcError) and hasattr(error, "code"):
        end_as(call, error)
    elif isinstance(error, Exception):
        call.end("UNKNOWN", _words(error), error)
    else:
        call.end("CANCELLED")


def _words(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return type(error).__name__
