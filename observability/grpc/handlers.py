"""What the server interceptors share: reading a handler, and making one that stands for it."""

import functools
from collections.abc import Callable
from typing import Any

import grpc

from observability.call import OTHER, Call, Method
from observability.grpc.recorder import MAX_METHODS, Recorder
from observability.propagation import shown

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
MAKERS: dict[str, Callable[..., Any]] = {
    "unary": grpc.unary_unary_rpc_method_handler,
    "client_stream": grpc.stream_unary_rpc_method_handler,
    "server_stream": grpc.unary_stream_rpc_method_handler,
    "bidi_stream": grpc.stream_stream_rpc_method_handler,
}
OWN_POOL, NON_BLOCKING = "experimental_thread_pool", "experimental_non_blocking"

# From a handler, its behavior, its method and the metadata of an RPC to the handler for this RPC.
Stand = Callable[[Any, Any, Method, Any], Any]


class Rpc(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """An RPC, and at once the handler that gRPC gets for it; of_kind makes its classes.

    Values that most RPCs keep are the class's, so that starting one sets nothing but what differs.
    """

    method: Method
    recorder: Recorder
    unary_unary: Any = None
    unary_stream: Any = None
    stream_unary: Any = None
    stream_stream: Any = None
    _call: Call | None = None

    def request_deserializer(self, data: bytes) -> Any:
        """Parse a request."""
        raise NotImplementedError

    def response_serializer(self, response: Any) -> bytes:
        """Serialize a response."""
        raise NotImplementedError

    def marked(self, marks: dict[str, Any]) -> Any:
        """A handler that is marked like the one that it stands for."""
        make = MAKERS[self.method.kind]
        return make(mark(behavior_of(self), marks), self.request_deserializer, self.response_serializer)

    def _guard(self, step: Callable[..., None], *arguments: Any) -> None:
        if self._call is not None and self._call.has_ended:
            return  # nothing that happens now changes what was recorded
        try:
            step(*arguments)
        except Exception:
            self.recorder.failed(self._call)

    def _replace(self, **changes: Any) -> Any:
        return self.marked({})._replace(**changes)


@functools.cache
def of_kind(rpc: type[Rpc], kind: str, serve: Callable[..., Any]) -> Any:
    """The class of such RPCs that are of a kind, and that a function serves."""
    requests, responses = next(streams for streams, name in KINDS.items() if name == kind)
    own = {BEHAVIORS[kind]: serve, "request_streaming": requests, "response_streaming": responses}
    return type(rpc.__name__, (rpc,), own)


def kind_of(handler: Any) -> str:
    """The kind of RPC that a handler serves."""
    return KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]


def behavior_of(handler: Any) -> Any:
    """The function, or callable object, that serves the RPC."""
    return getattr(handler, BEHAVIORS[kind_of(handler)])


def with_behavior(handler: Any, behavior: Any) -> Any:
    """A handler like this one, with another behavior, which gRPC treats like the old one."""
    marked = marks_of(behavior_of(handler))
    make = MAKERS[kind_of(handler)]
    return make(mark(behavior, marked), handler.request_deserializer, handler.response_serializer)


def marks_of(behavior: Any) -> dict[str, Any]:
    """What gRPC reads from a behavior beside calling it: its own thread pool, and whether it blocks."""
    return {name: getattr(behavior, name) for name in (OWN_POOL, NON_BLOCKING) if hasattr(behavior, name)}


def blocks(behavior: Any) -> bool:
    """Whether it returns its responses; one that does not gets a function for them, and has no thread."""
    return not getattr(behavior, NON_BLOCKING, False)


def mark(behavior: Any, marks: dict[str, Any]) -> Any:
    """The behavior with these marks."""
    if not marks:
        return behavior
    marked = functools.partial(behavior)
    for name, value in marks.items():
        setattr(marked, name, value)
    return marked


class PerMethod:
    """What is made of a method's handler, kept as long as the handler is the same.

    An inner interceptor may give another handler for each RPC; then it is made again.
    """

    def __init__(self, make: Callable[[str, Any], Any]) -> None:
        self._make = make
        self._made: dict[str, tuple[Any, Any]] = {}

    def of(self, path: str, handler: Any) -> Any:
        """What make gives for the handler of that path."""
        made = self._made.get(path)
        if made is None or made[0] is not handler:
            made = (handler, self._make(path, handler))
            if path in self._made or len(self._made) < MAX_METHODS:
                self._made[path] = made
        return made[1]

    def found(self, path: str) -> Any:
        """What was made for that path last, if it was."""
        made = self._made.get(path)
        return made[1] if made else None


class Handlers:
    """Finds the handler that stands for one; what is the same for each RPC of a method is found once.

    choose gives what makes it, or None for a handler that is left alone.
    """

    def __init__(self, recorder: Recorder, choose: Callable[[Any], Stand | None]) -> None:
        self._recorder = recorder
        self._choose = choose
        self._known = PerMethod(self._learn)

    def observed(self, details: Any, handler: Any) -> Any:
        """What gRPC gets for the handler."""
        try:
            if handler is None:
                return self.refused(details, "UNIMPLEMENTED", "Method not found!", asked=details.method)
            stand, behavior, method = self._known.of(details.method, handler)
            if stand is None or (
                isinstance(handler, Rpc) and self._recorder.is_double(handler.recorder.journal)
            ):
                return handler
            return stand(handler, behavior, method, details.invocation_metadata or ())
        except Exception:
            self._recorder.tally.failure("server")
            return handler

    def failed(self, details: Any, text: str, error: BaseException) -> None:
        """Record an RPC that an inner interceptor ended by raising, before there was a handler."""
        try:
            self.refused(details, "UNKNOWN", text, error)
        except Exception:
            self._recorder.tally.failure("server")

    def refused(
        self, details: Any, status: str, text: str, error: BaseException | None = None, *, asked: str = ""
    ) -> None:
        """Record an RPC that gRPC itself answers; one that the server does not have is asked for by name."""
        known = None if asked else self._known.found(details.method)
        method = known[2] if known else self._recorder.method(OTHER, "unary")
        call, _ = self._recorder.begin(
            method, details.invocation_metadata or (), asked=shown(asked.lstrip("/"))
        )
        call.end(status, text, error)

    def _learn(self, path: str, handler: Any) -> tuple[Stand | None, Any, Method]:
        return self._choose(handler), behavior_of(handler), self._recorder.method(path, kind_of(handler))
