"""Plain functions as handlers on an asyncio server, which runs them on threads with a smaller context."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc

from observability.call import Bound
from observability.interceptors.handlers import behavior_of
from observability.interceptors.outcome import NAMES
from observability.interceptors.server import Responses, Rpc


class SyncContext:
    """gRPC's context, which also remembers the status that the handler sets: its own cannot be asked."""

    def __init__(self, context: Any) -> None:
        self._context = context
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
        return bool(self._context.time_remaining() != 0)


class SyncMethod:
    """A method whose handler is a plain function or generator."""

    def __init__(self, handler: Any, bound: Bound) -> None:
        self._behavior, self._bound = behavior_of(handler), bound
        self._request_streaming = handler.request_streaming
        self.serve = self._serve_stream if handler.response_streaming else self._serve_unary

    def _serve_unary(self, request: Any, context: Any) -> Any:
        rpc, seen = self._begin(context)
        response = rpc.run(self._behavior, request, seen)
        rpc.call.sent = 1
        rpc.complete()
        return response

    def _serve_stream(self, request: Any, context: Any) -> Iterator[Any]:
        rpc, seen = self._begin(context)
        return Responses(rpc, rpc.run(self._behavior, request, seen), threading.local())

    def _begin(self, context: Any) -> tuple[Rpc, Any]:
        seen = SyncContext(context)
        rpc = Rpc(self._bound, seen)
        rpc.call.received = 0 if self._request_streaming else 1
        return rpc, seen
