"""What the server interceptors share: each RPC gets an object that stands for its handler, and records it."""

import types
from collections.abc import Callable
from typing import Any

import grpc

from observability.call import MAX_METHODS, OTHER, Bound, Recorder
from observability.failures import Failures

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
ATTEMPTS = "grpc-previous-rpc-attempts"

# From a handler, its behavior, the recorder of its method and the metadata of an RPC to what stands for it.
Rpc = Callable[[Any, Any, Bound, Any], Any]


def kind_of(handler: Any) -> str:
    """The kind of RPC that a handler serves."""
    return KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]


def behavior_of(handler: Any) -> Any:
    """The function, or callable object, that serves the RPC."""
    return getattr(handler, BEHAVIORS[kind_of(handler)])


def attempts(metadata: Any) -> int:
    """How many tries the client made before this one, as gRPC's retries tell (gRFC A6)."""
    for key, value in metadata:
        if key == ATTEMPTS and str(value).isdecimal():
            return int(value)
    return 0


class WrappedHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """A handler with another behavior in the place of its own."""

    def __init__(self, handler: Any, behavior: Any) -> None:
        self.request_streaming = handler.request_streaming
        self.response_streaming = handler.response_streaming
        self.request_deserializer = handler.request_deserializer
        self.response_serializer = handler.response_serializer
        self.unary_unary = self.unary_stream = self.stream_unary = self.stream_stream = None
        setattr(self, BEHAVIORS[kind_of(handler)], behavior)


def for_kinds(base: type, unary: Any, stream: Any) -> dict[str, Any]:
    """For each kind of RPC, base as a handler of it, which serves one response by unary, many by stream."""
    made: dict[str, Any] = {}
    for (requests, responses), kind in KINDS.items():
        made[kind] = types.new_class(base.__name__, (base,))
        made[kind].request_streaming, made[kind].response_streaming = requests, responses
        setattr(made[kind], BEHAVIORS[kind], stream if responses else unary)
    return made


class PerMethod:
    """What is made of a method's handler, kept as long as the handler is the same.

    An inner interceptor may give another handler for each RPC; then it is made anew.
    """

    def __init__(self, make: Callable[[str, Any], Any]) -> None:
        self._make = make
        self._made: dict[str, tuple[Any, Any]] = {}

    def of(self, path: str, handler: Any) -> Any:
        """What make gives for the handler of that path."""
        made = self._made.get(path)
        if made is None or made[0] is not handler:
            made = (handler, self._make(path, handler))
            if len(self._made) < MAX_METHODS:
                self._made[path] = made
        return made[1]


class Handlers:
    """Finds what stands for a handler; what is the same for each RPC of a method is found once.

    choose gives the Rpc for a handler, or None for one that is to be left alone.
    """

    def __init__(self, recorder: Recorder, failures: Failures, choose: Callable[[Any], Rpc | None]) -> None:
        self._recorder, self._failures, self._choose = recorder, failures, choose
        self._known = PerMethod(self._learn)

    def observed(self, details: Any, handler: Any) -> Any:
        """What gRPC gets for the handler."""
        try:
            if handler is None:
                self._unknown(details.invocation_metadata or ())
                return None
            rpc, behavior, bound = self._known.of(details.method, handler)
            return (
                handler if rpc is None else rpc(handler, behavior, bound, details.invocation_metadata or ())
            )
        except Exception:
            self._failures.count("interceptor")
            return handler

    def _learn(self, path: str, handler: Any) -> tuple[Rpc | None, Any, Bound]:
        return self._choose(handler), behavior_of(handler), self._recorder.bind(path, kind_of(handler))

    def _unknown(self, metadata: Any) -> None:
        """Record a call to a method that the server does not have; gRPC itself answers it."""
        self._recorder.bind(OTHER, "unary").begin(metadata).end("UNIMPLEMENTED", "Method not found!")
