"""A default deadline for calls that are made without one: no call waits for ever."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from observability import checks
from observability.grpc.client import CallDetails


class DeadlineInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Gives a deadline of timeout_s seconds to each call of a grpc.Channel that is made without a timeout."""

    def __init__(self, timeout_s: float) -> None:
        checks.seconds("timeout_s", timeout_s)
        self._timeout_s = timeout_s

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Set the deadline."""
        return continuation(self._limited(client_call_details), request)

    intercept_unary_stream: Any = intercept_unary_unary
    intercept_stream_unary: Any = intercept_unary_unary
    intercept_stream_stream: Any = intercept_unary_unary

    def _limited(self, details: Any) -> Any:
        if details.timeout is not None:
            return details
        return CallDetails(
            details.method,
            self._timeout_s,
            details.metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class _AioDeadline:
    def __init__(self, timeout_s: float) -> None:
        checks.seconds("timeout_s", timeout_s)
        self._timeout_s = timeout_s

    async def limit(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        if details.timeout is None:
            details = details._replace(timeout=self._timeout_s)
        return await continuation(details, request)


class _UnaryUnary(_AioDeadline, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _AioDeadline.limit


class _UnaryStream(_AioDeadline, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _AioDeadline.limit


class _StreamUnary(_AioDeadline, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _AioDeadline.limit


class _StreamStream(_AioDeadline, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _AioDeadline.limit


def aio_deadline_interceptors(timeout_s: float) -> list[grpc.aio.ClientInterceptor]:
    """The same for a grpc.aio.Channel, which wants one for each kind of RPC."""
    return [kind(timeout_s) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]
