"""Plain functions as handlers on an asyncio server, which runs them on threads with a smaller context."""

import asyncio
from typing import Any

import grpc

from observability.call import Bound
from observability.interceptors.handlers import for_kinds
from observability.interceptors.outcome import NAMES, unexpected
from observability.interceptors.server import ServerRpc


class SyncContext:
    """gRPC's context, which also remembers the status that the handler sets: its own cannot be asked."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.gone = False
        self._code: Any = None
        self._details: str | None = None
        self._trailers: Any = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_code(self, code: Any) -> None:
        """Set the status; a number goes out as it is."""
        self._code = code
        self._context.set_code(code)

    def set_details(self, details: str) -> None:
        """Set the status's details."""
        self._details = details
        self._context.set_details(details)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set the trailing metadata."""
        self._trailers = trailing_metadata
        self._context.set_trailing_metadata(trailing_metadata)

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the RPC with a status; raises grpc.aio.AbortError."""
        self._code, self._details, self._trailers = code, details, trailing_metadata or self._trailers
        self._context.abort(code, details, trailing_metadata)

    def code(self) -> grpc.StatusCode | None:
        """The status that was set, if one was."""
        return grpc.StatusCode[NAMES[self._code]] if self._code in NAMES else self._code

    def details(self) -> str | None:
        """The details that were set, if some were."""
        return self._details

    def trailing_metadata(self) -> Any:
        """The trailing metadata that was set."""
        return self._trailers

    def is_active(self) -> bool:
        """Whether somebody still waits for the response."""
        return not self.gone and bool(self._context.time_remaining() != 0)


class SyncRpc(ServerRpc):
    """An RPC of an asyncio server that a plain function or generator serves."""

    def __init__(self, handler: Any, behavior: Any, bound: Bound, metadata: Any) -> None:
        super().__init__(handler, behavior, bound, metadata)
        self._is_over = False
        task: Any = asyncio.current_task()
        self._task = task
        task.add_done_callback(self._over)  # gRPC tells a plain function's context of no cancellation

    def serve_unary(self, request: Any, context: Any) -> Any:
        """Serve an RPC of one response, which gRPC serializes when the status is OK, and only then."""
        response = super().serve_unary(request, context)
        if self.status("OK") != "OK":
            self.complete()
        return response

    def peer(self, context: Any) -> str:
        """The client's address. Asked for that of an RPC that ended before its thread began, gRPC crashes."""
        return "" if self._is_over else str(context.peer())

    def seen(self, context: Any) -> Any:
        """The context that the handler sees."""
        return SyncContext(context)

    def watch(self) -> None:
        """The task is watched already; it may have ended before the handler's thread began."""
        if self._is_over:
            self._over(self._task)

    def status(self, default: str) -> str:
        """What an asyncio server sends: an exception is never OK."""
        status = super().status(default)
        return default if status == "OK" else status

    def is_told_later(self) -> bool:
        """Also for a stream of responses: its thread runs ahead of gRPC, which may fail to send the last."""
        return self.response_streaming or super().is_told_later()

    def is_cancelled(self) -> bool:
        """Whether the client cancelled; gRPC's task then ends as if it had not been."""
        return bool(self._task.cancelling())

    def _over(self, _: Any) -> None:
        self._is_over = True
        if self._context is not None:
            self._context.gone = self.is_cancelled()
            if not self._context.gone and self.status("OK") != "OK":
                self.complete()  # it aborted, and did not let that stop it
            self.closed()

    def queued_s(self) -> float | None:
        """The threads are asyncio's, not a pool of the server's."""
        return None

    def unparsable(self, error: Exception) -> tuple[str, str]:
        """Status and details when a request cannot be parsed."""
        return "UNKNOWN", unexpected(error)

    def unserializable(self, error: Exception) -> tuple[str, str]:
        """Status and details when a response cannot be serialized."""
        return self.status("UNKNOWN"), unexpected(error)

    def stream(self, request: Any) -> Any:
        """The handler's responses; an asyncio server takes anything that can be iterated."""
        return iter(super().stream(request))


SYNC_RPCS = for_kinds(SyncRpc, SyncRpc.serve_unary, SyncRpc.serve_stream)
