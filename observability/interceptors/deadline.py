"""A default deadline for calls that are made without one: no call waits for ever."""

from typing import Any

import grpc

from observability.interceptors.client import CallDetails


class DeadlineInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Gives timeout_s seconds to each call of a channel that has no timeout of its own."""

    def __init__(self, timeout_s: float) -> None:
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
