"""Requests that cannot be parsed, refused by a handler: of each that gRPC itself refuses, it keeps 25 KiB.

grpcio 1.85's threaded server sends a second status for it when the client is done, and never ends that call.
"""

import functools
from collections.abc import Callable
from typing import Any

import grpc

DETAILS = "Exception deserializing request!"  # gRPC's words
BEHAVIORS = ("unary_unary", "unary_stream")  # in a stream of requests, gRPC ends such a call

_UNPARSABLE = object()


class Parsing(grpc.ServerInterceptor):
    """Refuses them as gRPC does, with INTERNAL. Put it last: it is the handlers that it changes."""

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Give gRPC a handler whose parser raises nothing."""
        handler = continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        return _safe(handler)


@functools.lru_cache(maxsize=64)  # handlers live as long as their server, or are not the same again
def _safe(handler: Any) -> Any:
    def parse(data: bytes) -> Any:
        try:
            return handler.request_deserializer(data)
        except Exception:
            return _UNPARSABLE

    name = next(name for name in BEHAVIORS if getattr(handler, name))
    behavior = getattr(handler, name)

    @functools.wraps(behavior)  # with its marks, such as a thread pool of its own
    def behave(request: Any, context: Any) -> Any:
        if request is _UNPARSABLE:
            context.abort(grpc.StatusCode.INTERNAL, DETAILS)
        return behavior(request, context)

    return handler._replace(request_deserializer=parse, **{name: behave})
