"""What the server interceptors share: a method's wrapped handler is made once, and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from observability.call import MAX_METHODS, OTHER, Bound, Recorder

Wrap = Callable[[Any, Bound], Any]
KINDS = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
BEHAVIORS = {
    "unary": "unary_unary",
    "client_stream": "stream_unary",
    "server_stream": "unary_stream",
    "bidi_stream": "stream_stream",
}


def kind_of(handler: Any) -> str:
    """The kind of RPC that a handler serves."""
    return KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]


def behavior_of(handler: Any) -> Any:
    """The function, or callable object, that serves the RPC."""
    return getattr(handler, BEHAVIORS[kind_of(handler)])


@dataclass(frozen=True)
class Unparsable:
    """Stands for a request that could not be parsed, on its way to where the call is recorded."""

    error: Exception


class WrappedHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """A handler with another behavior, serializer and deserializer in the place of its own."""

    def __init__(
        self, handler: Any, behavior: Any, request_deserializer: Any, response_serializer: Any
    ) -> None:
        self.request_streaming = handler.request_streaming
        self.response_streaming = handler.response_streaming
        self.request_deserializer = request_deserializer
        self.response_serializer = response_serializer
        self.unary_unary = self.unary_stream = self.stream_unary = self.stream_stream = None
        setattr(self, BEHAVIORS[kind_of(handler)], behavior)


class Handlers:
    """The wrapped handlers of a server, by method."""

    def __init__(self, recorder: Recorder, wrap: Wrap) -> None:
        self._recorder, self._wrap = recorder, wrap
        self._made: dict[str, tuple[Any, Any]] = {}

    def wrapped(self, path: str, handler: Any) -> Any:
        """The wrapped handler; an inner interceptor may give another handler for each call."""
        made = self._made.get(path)
        if made is not None and made[0] is handler:
            return made[1]
        wrapped = self._wrap(handler, self._recorder.bind(path, kind_of(handler)))
        if len(self._made) < MAX_METHODS:
            self._made[path] = (handler, wrapped)
        return wrapped

    def unknown(self, metadata: Any) -> None:
        """Record a call to a method that the server does not have; gRPC itself answers it."""
        self._recorder.bind(OTHER, "unary").begin(metadata or ()).end("UNIMPLEMENTED", "Method not found!")
