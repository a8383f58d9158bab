"""The interceptor for grpc.Server: its handlers run on threads, and a callback comes when an RPC is over."""

import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import GeneratorType
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from observability.call import Method
from observability.grpc.context import WatchedContext
from observability.grpc.handlers import (
    OWN_POOL,
    Handlers,
    Rpc,
    behavior_of,
    blocks,
    kind_of,
    marks_of,
    of_kind,
)
from observability.grpc.outcome import (
    End,
    Outcome,
    Raised,
    deadline_left_s,
    threaded_outcome,
    threaded_status,
)
from observability.grpc.recorder import Recorder

_END = object()


class ServerInterceptor(grpc.ServerInterceptor):
    """Records each call of a server. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._handlers = Handlers(recorder, self._choose)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Give gRPC the recording handler. Runs on the server's one polling thread: no slow work here."""
        try:
            if self._recorder.contrib.is_loaded():
                with self._recorder.contrib.kept_out():
                    handler = continuation(handler_call_details)
            else:
                handler = continuation(handler_call_details)
        except Exception as error:
            self._handlers.failed(handler_call_details, "Error in service handler!", error)
            raise
        return self._handlers.observed(handler_call_details, handler)

    def _choose(self, handler: Any) -> Any:
        behavior = behavior_of(handler)
        if not blocks(behavior):
            return None
        serve = ServerRpc.serve_stream if handler.response_streaming else ServerRpc.serve_unary
        made = functools.partial(of_kind(ServerRpc, kind_of(handler), serve), self._recorder)
        marks = marks_of(behavior)
        return (lambda *known: made(*known).marked(marks)) if marks else made


class ServerRpc(Rpc):
    """One RPC, from its arrival until gRPC is done with it.

    Of an RPC of one request and one response, the record ends when the response is serialized; of others, or
    when the handler raised, when gRPC calls back at the RPC's end.
    """

    _context: Any = None
    _seen: Any = None
    _scope: Context | None = None
    _requests: Iterator[Any] | None = None
    _unparsed: Exception | None = None
    _raised: Raised | None = None
    _is_served = False
    _was_lost = False
    _is_over = False
    _in_handler = False
    _is_queued = True

    def __init__(
        self, recorder: Recorder, handler: Any, behavior: Any, method: Method, metadata: Any
    ) -> None:
        self._arrived_ns = time.perf_counter_ns()
        self._thread = threading.get_ident()
        self.recorder = recorder
        self._handler = handler
        self._behavior = behavior
        self.method = method
        self._metadata = metadata

    def marked(self, marks: dict[str, Any]) -> Any:
        """A handler that is marked like the one that it stands for."""
        self._is_queued = OWN_POOL not in marks
        return super().marked(marks)

    def serve_unary(self, request: Any, context: Any) -> Any:
        """Serve an RPC of one response."""
        self._enter(request, context)
        return self.run(self._behavior, request, self._seen)

    def serve_stream(self, request: Any, context: Any) -> Iterator[Any]:
        """Serve an RPC of many responses."""
        self._enter(request, context)
        return _Responses(self, self.run(self.stream, request))

    def stream(self, request: Any) -> Any:
        """The handler's responses, an iterator."""
        return self._behavior(request, self._seen)

    def request_deserializer(self, data: bytes) -> Any:
        """Parse a request, on a thread of gRPC's; of one that fails, gRPC itself informs the client."""
        parse = self._handler.request_deserializer
        try:
            request = parse(data) if parse else data
        except Exception as error:
            self._unparsed = error
            if not self.request_streaming:  # the handler will not be called
                self._guard(self._start)
                self.finish()
            raise
        if self.request_streaming and self._call is not None:
            self._call.message_received(request)
        return request

    def response_serializer(self, response: Any) -> Any:
        """Serialize a response, on the thread that just ran the handler."""
        serialize = self._handler.response_serializer
        try:
            data = serialize(response) if serialize else response
        except Exception as error:
            self._guard(self._not_serialized, error)
            raise
        if self._call is not None:
            self._call.message_sent(response)
            if not self.response_streaming:
                self._guard(self.complete)
        return data

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a piece of the handler with the call's span as the current one."""
        self._in_handler = True
        token = otel_context.attach(self._scope) if self._scope is not None else None
        try:
            return function(*arguments)
        except BaseException as error:
            self._guard(self._note, error, function is next)
            raise
        finally:
            if token is not None:
                self._scope = otel_context.get_current()  # a generator may be inside a span that it opened
                otel_context.detach(token)
            self._guard(self._look_for_loss)
            self._in_handler = False
            if self._is_over:
                self.finish()

    def close(self, responses: Generator[Any, Any, Any]) -> None:
        """Close the handler's generator with the call's span as the current one."""
        token = otel_context.attach(self._scope) if self._scope is not None else None
        try:
            responses.close()
        finally:
            if token is not None:
                otel_context.detach(token)

    def over(self) -> None:
        """The handler has no more responses."""
        self._guard(self.complete)

    def complete(self) -> None:
        """The handler is done and did not raise: the status is what it set, or OK."""
        self._raised = None  # an interceptor outside of ours made a response of it
        self._is_served = True
        if self.is_decided_later():
            self._is_ending()
        else:
            self.finish()

    def is_decided_later(self) -> bool:
        """Whether what the handler said holds only when gRPC is done with the RPC.

        To a handler that reads requests, a client that cancels may look like one that has sent them all; and
        after a stream's end, an interceptor outside of ours may yet set another status.
        """
        return self.request_streaming or self.response_streaming

    def unparsable(self, error: Exception) -> tuple[str, str]:  # noqa: ARG002 (gRPC's words say nothing of it)
        """Status and details when a request cannot be parsed."""
        return "INTERNAL", "Exception deserializing request!"

    def unserializable(self, error: Exception) -> tuple[str, str]:  # noqa: ARG002
        """Status and details when a response cannot be serialized."""
        return threaded_status(self._context.code(), "INTERNAL"), "Failed to serialize response!"

    def decided(self, end: End) -> Outcome:
        """How the RPC ended."""
        return threaded_outcome(end)

    def begin(self, request: Any, context: Any) -> None:
        """Start the record, on the thread that is about to run the handler."""
        self._context = context
        self._seen = WatchedContext(context)
        queued_s = (time.perf_counter_ns() - self._arrived_ns) / 1e9 if self._is_queued else None
        self.start(request, context.peer(), deadline_left_s(context), queued_s)
        if self.is_decided_later():
            self.watch()

    def start(self, request: Any, peer: str, deadline_s: float | None, queued_s: float | None) -> None:
        """Start the record."""
        self._call, self._scope = self.recorder.begin(self.method, self._metadata, peer, deadline_s, queued_s)
        if self.request_streaming:
            self._requests = request
        else:
            self._call.message_received(request)

    def watch(self) -> None:
        """Ask for a callback at the end of the RPC; it may be over already."""
        if not self._context.add_callback(self.closed):
            self._is_over = True

    def closed(self) -> None:
        """GRPC is done with the RPC."""
        self._is_over = True
        if not self._in_handler:
            self.finish()

    def finish(self) -> None:
        """End the record with what is known now."""
        self._guard(self._end)
        if self._is_over or not self.is_decided_later():
            self._context = self._seen = None  # they hold the RPC: only the collector would undo that circle

    def is_cancelled(self) -> bool:
        """Whether the client cancelled; how the requests of an RPC that is over end says so."""
        if self._requests is None:
            return False
        try:
            next(self._requests, None)
        except grpc.RpcError:
            return True
        return False

    def refusal(self) -> Outcome:
        """How an RPC ended that no handler was called for.

        gRPC refuses what is over maximum_concurrent_rpcs at once, on the thread that the RPC arrived on. A
        thread of the pool drops what nobody waits for any more: as a rule, its deadline passed in the queue.
        """
        if threading.get_ident() == self._thread:
            return Outcome("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
        return Outcome("DEADLINE_EXCEEDED")

    def _enter(self, request: Any, context: Any) -> None:
        try:
            self.begin(request, context)
        except Exception:
            self._seen = self._seen or context
            self.recorder.failed(self._call)

    def _is_ending(self) -> None:
        if self._call is not None:
            self._call.is_ending = True

    def _note(self, error: BaseException, iterating: bool) -> None:
        """The handler raised. A SystemExit leaves the RPC open, until the client ends it."""
        context = self._context
        if isinstance(error, Exception):
            aborted = self._seen.aborted
            self._raised = Raised(error, context.code(), context.details(), aborted, iterating)
            self._is_ending()
        if not self.is_decided_later():
            self.watch()

    def _look_for_loss(self) -> None:
        context = self._context
        if not context.is_active() or deadline_left_s(context) == 0:
            self._was_lost = True
            self._is_over = True  # nobody waits for more: what the handler did until now is the call

    def _not_serialized(self, error: Exception) -> None:
        self._end(Outcome(*self.unserializable(error), error))

    def _end(self, outcome: Outcome | None = None) -> None:
        call, context = self._call, self._context
        if call is None or call.has_ended:
            return
        outcome = outcome or self._outcome()
        failed = context is not None and outcome.status != "OK"
        trailers = context.trailing_metadata() or () if failed else ()
        call.end(outcome.status, outcome.details, outcome.error, trailers)

    def _outcome(self) -> Outcome:
        context, is_served = self._context, self._is_served
        if self._unparsed is not None and (self.request_streaming or context is None):
            return Outcome(*self.unparsable(self._unparsed), self._unparsed)
        is_gone = self._was_lost or (is_served and self.is_cancelled())
        left_s = None if is_served and not is_gone else deadline_left_s(context)
        is_cancelled = self._seen.cancelled_by_handler
        return self.decided(
            End(context.code(), context.details(), left_s, self._raised, is_served, is_gone, is_cancelled)
        )

    def _start(self) -> None:
        self._call, self._scope = self.recorder.begin(self.method, self._metadata)

    def __del__(self) -> None:
        """Of an RPC that was refused before its handler was called, nothing else is heard."""
        if self._call is None and self._unparsed is None and self._context is None:
            self._guard(self._refuse)
        elif self._call is not None and not self._was_lost:
            self._guard(self._replaced)

    def _refuse(self) -> None:
        self._start()
        self._end(self.refusal())

    def _replaced(self) -> None:
        """An interceptor outside of ours put something else in the place of the handler's response."""
        self._end(self.decided(End(self._context.code(), self._context.details(), is_served=True)))


class _Responses(Iterator[Any]):
    """The handler's responses, each made with the call's span as the current one."""

    def __init__(self, rpc: ServerRpc, responses: Any) -> None:
        self._rpc = rpc
        self._responses = responses

    def __next__(self) -> Any:
        response = self._rpc.run(next, self._responses, _END)
        if response is _END or response is None:  # gRPC takes None for the end, too
            self._rpc.over()
            raise StopIteration
        return response

    def __del__(self) -> None:
        if isinstance(self._responses, GeneratorType):  # what it does at its close is part of the call
            self._rpc.close(self._responses)
