"""Plain functions as handlers on an asyncio server, which runs them on threads with a smaller context."""

import asyncio
from typing import Any

from observability.call import Method
from observability.grpc.context import PlainContext
from observability.grpc.outcome import (
    End,
    Outcome,
    aio_failure,
    aio_outcome,
    aio_status,
    deadline_left_s,
    unexpected,
)
from observability.grpc.recorder import Recorder
from observability.grpc.server import ServerRpc


class SyncRpc(ServerRpc):
    """An RPC of an asyncio server that a plain function or generator serves."""

    def __init__(
        self, recorder: Recorder, handler: Any, behavior: Any, method: Method, metadata: Any
    ) -> None:
        super().__init__(recorder, handler, behavior, method, metadata)
        task: Any = asyncio.current_task()
        self._task = task
        self._has_ended = False
        task.add_done_callback(self._over)  # gRPC informs a plain function's context of no cancellation

    def serve_unary(self, request: Any, context: Any) -> Any:
        """Serve an RPC of one response, which gRPC serializes when the status is OK, and only then."""
        response = super().serve_unary(request, context)
        if aio_status(self._context.code(), "OK") != "OK":
            self.complete()
        return response

    def stream(self, request: Any) -> Any:
        """The handler's responses; an asyncio server takes anything that can be iterated."""
        return iter(super().stream(request))

    def begin(self, request: Any, context: Any) -> None:
        """Start the record; the task may have ended before the handler's thread began."""
        self._context = self._seen = PlainContext(context)
        peer = "" if self._has_ended else context.peer()  # which crashes gRPC when the RPC has ended
        self.start(request, peer, deadline_left_s(context), None)
        if self._has_ended:
            self._over(self._task)

    def watch(self) -> None:
        """The task is watched already."""

    def decided(self, end: End) -> Outcome:
        """How the RPC ended."""
        return aio_outcome(end)

    def unparsable(self, error: Exception) -> tuple[str, str]:
        """Status and details when a request cannot be parsed."""
        return "UNKNOWN", unexpected(error)

    def unserializable(self, error: Exception) -> tuple[str, str]:
        """Status and details when a response cannot be serialized."""
        return aio_failure(self._context.code()), unexpected(error)

    def is_cancelled(self) -> bool:
        """Whether the client cancelled; gRPC's task then ends as if it had not been."""
        return bool(self._task.cancelling())

    def refusal(self) -> Outcome:
        """How an RPC ended that no handler was called for."""
        if self.is_cancelled():
            return Outcome("DEADLINE_EXCEEDED")
        return Outcome("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")

    def _over(self, _: Any) -> None:
        self._has_ended = True
        if self._context is None:
            return
        self._context.is_gone = self.is_cancelled()
        if self._context.is_gone and self._raised is None:
            self._was_lost = True
        self.closed()
