"""The interceptor for grpc.aio.Server: each RPC has a task of its own, and so a context of its own."""

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from observability.call import Bound, Recorder
from observability.failures import Failures
from observability.interceptors.handlers import Handlers, WrappedHandler, behavior_of
from observability.interceptors.outcome import NAMES, deadline_left_s, lost_status, text

_rpc: contextvars.ContextVar["_Rpc"] = contextvars.ContextVar("rpc")
_metadata: contextvars.ContextVar[Any] = contextvars.ContextVar("metadata")


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """Records each call of an asyncio server. Put it first: the first interceptor is the outermost."""

    def __init__(self, recorder: Recorder, failures: Failures) -> None:
        self._handlers = Handlers(recorder, lambda handler, bound: _Method(handler, bound).handler)
        self._failures = failures

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Give gRPC the recording handler. Runs in the RPC's own task."""
        handler = await continuation(handler_call_details)
        try:
            if handler is None:
                return self._handlers.unknown(handler_call_details.invocation_metadata)
            _metadata.set(handler_call_details.invocation_metadata)
            return self._handlers.wrapped(handler_call_details.method, handler)
        except Exception:
            self._failures.count("interceptor")
            return handler
