"""What a composition is: a server and a client with layers of interceptors, and calls that end in every way."""

import asyncio
import inspect
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue
from grpc_interceptor.exceptions import NotFound
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, use_span

from observability.testing import eventually
from tests.conformance.cases import KINDS, TIMEOUT_S, Seen, call_seen, error_seen
from tests.conformance.endings import CODE, aborting, raising, rich, setting, slow, waits
from tests.conformance.world import Loop

SERVICE = "composition.Cases"
DEADLINE_S = 0.5
MANY = ("unary_stream", "stream_stream")
SENT = (("own", "a"), ("own", "b"))
TRAILERS = (("trailing", "a"), ("trailing", "b"), ("trailing-bin", b"\x00\xff"))
TRACING_KEYS = frozenset(
    {"sentry-trace"}
)  # random; OpenTelemetry's own are left out by tests.conformance.cases
GONE = {"cancel": "CANCELLED", "leave": "CANCELLED"}  # whatever the client can see

Layer = Callable[[Any], Any]  # from a channel to a channel


@dataclass(frozen=True)
class End:
    """How a call ends: what the handler does last, and whether the client waits for it."""

    act: Callable[[Any, Seen], Any]
    drive: str = "whole"
    timeout_s: float | None = TIMEOUT_S
    kinds: tuple[str, ...] = KINDS
    at_once: bool = False  # before the first response
    entered: bool = True


def fails_twice(context: Any, seen: Seen) -> Any:
    """Abort the first two attempts, answer the third."""
    return context.abort(CODE.UNAVAILABLE, "not yet") if attempts(seen) < 3 else b"done"


def attempts(seen: Seen) -> int:
    """How often the handler was entered."""
    return sum(event[0] == "metadata" for event in seen.events)


ENDS = {
    "returns": End(lambda context, _: b"done"),
    "raises": End(raising(lambda: ValueError("broken"))),
    "sets code then raises": End(raising(lambda: ValueError("broken"), CODE.NOT_FOUND, "said before")),
    "aborts": End(aborting(CODE.NOT_FOUND, "no such thing")),
    "sets code": End(setting(CODE.ALREADY_EXISTS, "there already")),
    "aborts with status": End(lambda context, _: context.abort_with_status(rich())),
    "deadline passes": End(slow, timeout_s=DEADLINE_S),
    "client cancels": End(waits, drive="cancel"),
    "client leaves": End(waits, drive="leave", kinds=MANY),
}
MORE_ENDS = {
    "raises a status": End(raising(lambda: NotFound("not there"))),
    "fails twice": End(fails_twice, at_once=True),
    "default deadline passes": End(slow, timeout_s=None),
    "refused": End(lambda context, _: b"done", entered=False),
}
ALL_ENDS = ENDS | MORE_ENDS


@dataclass(frozen=True)
class Call:
    """One call of a composition; its path names it."""

    kind: str
    end: str

    @property
    def method(self) -> str:
        """The method, without its service."""
        return f"{self.kind}.{self.end.replace(' ', '_')}"

    @property
    def path(self) -> str:
        """The method's path."""
        return f"/{SERVICE}/{self.method}"

    @property
    def what(self) -> End:
        """Its end."""
        return ALL_ENDS[self.end]


def message(value: Any) -> Any:
    """A response, unless there is none: bytes are iterable, and some interceptors take them for a stream."""
    return value if value is None else BytesValue(value=value)


def sync_behavior(call: Call, seen: Seen) -> Any:
    """The handler's function for a threaded server."""

    def unary(request: Any, context: Any) -> Any:
        with seen.handling(context):
            for each in request if call.kind.startswith("stream") else [request]:
                seen.take(each.value)
            context.set_trailing_metadata(TRAILERS)
            return message(call.what.act(context, seen))

    def stream(request: Any, context: Any) -> Iterator[Any]:
        with seen.handling(context):
            for each in request if call.kind.startswith("stream") else [request]:
                seen.take(each.value)
            context.set_trailing_metadata(TRAILERS)
            for response in [] if call.what.at_once else [b"1", b"2"]:
                yield message(response)
            yield message(call.what.act(context, seen))

    return stream if call.kind in MANY else unary


def aio_behavior(call: Call, seen: Seen) -> Any:
    """The same for an asyncio server."""

    async def begin(request: Any, context: Any) -> None:
        if call.kind.startswith("stream"):
            async for each in request:
                seen.take(each.value)
        else:
            seen.take(request.value)
        context.set_trailing_metadata(TRAILERS)

    async def last(context: Any) -> Any:
        result = call.what.act(context, seen)
        return message(await result if inspect.isawaitable(result) else result)

    async def unary(request: Any, context: Any) -> Any:
        with seen.handling(context):
            await begin(request, context)
            return await last(context)

    async def stream(request: Any, context: Any) -> Any:
        with seen.handling(context):
            await begin(request, context)
            for response in [] if call.what.at_once else [b"1", b"2"]:
                yield message(response)
            yield await last(context)

    return stream if call.kind in MANY else unary


class Handlers(grpc.GenericRpcHandler):
    """The handlers of some calls; what each saw is kept in `seen`."""

    def __init__(self, calls: Sequence[Call], flavour: str) -> None:
        self.seen = {call: Seen(flavour, True) for call in calls}
        behavior = aio_behavior if flavour == "aio" else sync_behavior
        self._handlers = {
            call.path: getattr(grpc, f"{call.kind}_rpc_method_handler")(
                behavior(call, seen), BytesValue.FromString, BytesValue.SerializeToString
            )
            for call, seen in self.seen.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method."""
        return self._handlers.get(handler_call_details.method)


class Pair:
    """A server and a channel to it, with interceptors on both; flavour is "sync", "aio" or "plain"."""

    def __init__(
        self,
        flavour: str,
        handlers: Handlers,
        loop: Loop,
        server: Sequence[Any] = (),
        client: Callable[[str], Sequence[Any]] = lambda target: (),
        workers: int = 40,
        limit: int | None = None,
    ) -> None:
        self._loop, self.is_aio = loop, flavour != "sync"
        self._ends = ExitStack()
        pool = self._ends.enter_context(ThreadPoolExecutor(workers))
        options: dict[str, Any] = {"interceptors": list(server), "maximum_concurrent_rpcs": limit}
        (self._start_aio if self.is_aio else self._start)(pool, options, handlers, client)

    def _start(self, pool: Any, options: Any, handlers: Handlers, client: Any) -> None:
        server = grpc.server(pool, **options)
        server.add_generic_rpc_handlers((handlers,))
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self._ends.callback(lambda: server.stop(0).wait(10))
        channel = self._ends.enter_context(grpc.insecure_channel(target))
        for layer in reversed(client(target)):
            channel = layer(channel) if callable(layer) else grpc.intercept_channel(channel, layer)
        self.channel: Any = channel

    def _start_aio(self, pool: Any, options: Any, handlers: Handlers, client: Any) -> None:
        async def start() -> Any:
            server = grpc.aio.server(pool, **options)
            server.add_generic_rpc_handlers((handlers,))
            target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            self.channel = grpc.aio.insecure_channel(target, interceptors=list(client(target)))
            return server

        server = self._loop.run(start())
        self._ends.callback(lambda: self._loop.run(server.stop(0)))
        self._ends.callback(lambda: self._loop.run(self.channel.close()))

    def stub(self, call: Call) -> Any:
        """The multi-callable of a call's method."""
        make = getattr(self.channel, call.kind)
        return make(call.path, BytesValue.SerializeToString, BytesValue.FromString)

    def make(self, call: Call, seen: Seen, trace_id: int = 0, wrap: Layer = lambda stub: stub) -> Any:
        """Make the call below a caller's span; give what the client saw."""
        client = Client(call, wrap(self.stub(call)), seen, trace_id or secrets.randbits(128))
        with use_span(client.caller):
            return self._loop.run(client.run_aio()) if self.is_aio else client.run()

    def close(self) -> None:
        """Stop both."""
        self._ends.close()

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """Makes one call, blocking or on asyncio, and keeps what it sees."""

    def __init__(self, call: Call, stub: Any, seen: Seen, trace_id: int) -> None:
        self._call, self._stub, self._seen = call, stub, seen
        self.caller = NonRecordingSpan(
            SpanContext(trace_id, trace_id & (2**64 - 1), False, TraceFlags(TraceFlags.SAMPLED))
        )
        self._responses: list[bytes] = []
        self._left_current = False

    def _saw(self, seen: dict[str, Any]) -> dict[str, Any]:
        code = seen.get("code", "UNKNOWN") if "raised" in seen else "OK"
        status = seen.pop("status", GONE.get(self._call.what.drive, code))
        return seen | {"responses": self._responses, "status": status, "left current": self._left_current}

    def _take(self, response: Any) -> None:
        self._responses.append(response.value)
        self._note()

    def _note(self) -> None:
        self._left_current |= get_current_span() is not self.caller

    def _start(self, stub: Any) -> Any:
        request: Any = message(b"request")
        if self._call.kind.startswith("stream"):
            request = iter([message(b"first"), request])
        try:
            return stub(request, timeout=self._call.what.timeout_s, metadata=SENT)
        finally:
            self._note()

    def run(self) -> dict[str, Any]:
        """Make it, blocking."""
        act = {"whole": self._whole, "cancel": self._cancel, "leave": self._leave}[self._call.what.drive]
        try:
            seen = act()
        except Exception as error:
            seen = self._error(error)
        self._note()
        return self._saw(seen)

    def _error(self, error: BaseException) -> dict[str, Any]:
        named = getattr(error, "grpc_status_code", None)  # google.api_core's
        return error_seen(error) | ({"status": named.name} if named else {})

    def _whole(self) -> dict[str, Any]:
        if self._call.kind in MANY:
            call = self._start(self._stub)
            for response in call:
                self._take(response)
            return call_seen(call)
        response, call = (
            self._start(self._stub.with_call)
            if hasattr(self._stub, "with_call")
            else (self._start(self._stub), None)
        )
        self._take(response)
        return call_seen(call)

    def _cancel(self) -> dict[str, Any]:
        call = self._start(self._stub if self._call.kind in MANY else self._stub.future)
        if self._call.kind in MANY:
            self._take(next(call))
            self._take(next(call))
        eventually(self._seen.waiting.is_set)
        (call.cancel if hasattr(call, "cancel") else call.close)()  # a plain generator cannot cancel
        try:
            ended: Any = [*call] if self._call.kind in MANY else call.result()
        except Exception as error:
            return self._error(error) | call_seen(call)
        return {"ended": ended} | call_seen(call)

    def _leave(self) -> dict[str, Any]:
        call = self._start(self._stub)
        self._take(next(call))
        eventually(self._seen.waiting.is_set)
        del call
        return {"ended": self._seen.ended.wait(5)}

    async def run_aio(self) -> dict[str, Any]:
        """Make it on asyncio."""
        act = self._whole_aio if self._call.what.drive == "whole" else self._stop_aio
        with use_span(self.caller):
            try:
                seen = await act()
            except (Exception, asyncio.CancelledError) as error:
                seen = self._error(error)
            self._note()
        return self._saw(seen)

    async def _whole_aio(self) -> dict[str, Any]:
        call = await self._start_aio()
        if self._call.kind in MANY:
            async for response in call:
                self._take(response)
        else:
            response = await call
            self._take(
                await response if inspect.isawaitable(response) else response
            )  # api-core's: a call first
        return await aio_call_seen(call)

    async def _start_aio(self) -> Any:
        call = self._start(self._stub)
        if not inspect.iscoroutine(call):
            return call
        return await call if self._call.kind in MANY else asyncio.ensure_future(call)

    async def _stop_aio(self) -> dict[str, Any]:
        """Cancel: after all that there is, or after the first response."""
        call = await self._start_aio()
        first = 0 if self._call.kind not in MANY else 1 if self._call.what.drive == "leave" else 2
        responses = aiter(call) if first else None
        for _ in range(first):
            self._take(await anext(responses))  # type: ignore[arg-type]
        await until(self._seen.waiting.is_set)
        call.cancel()
        try:
            ended = [each async for each in responses] if responses else await call
        except (Exception, asyncio.CancelledError) as error:
            return self._error(error) | await aio_call_seen(call)
        return {"ended": ended} | await aio_call_seen(call)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until it comes true, on asyncio."""
    end = time.monotonic() + TIMEOUT_S
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.01)


async def aio_call_seen(call: Any) -> dict[str, Any]:
    """What a client sees of an asyncio call that has ended, if that is what it has."""
    if not hasattr(call, "code"):
        return {}
    names = ("code", "details", "initial_metadata", "trailing_metadata")
    values = {name: await getattr(call, name)() for name in names}
    return call_seen(type("Ended", (), {name: lambda _, n=name: values[n] for name in names})())


def handler_saw(call: Call, seen: Seen) -> list[Any]:
    """What the handler saw, without what is random; the case lets go of it."""
    events = seen.saw(call.what.entered)
    seen.released.set()
    return [
        (event[0], [pair for pair in event[1] if pair[0] not in TRACING_KEYS])
        if event[0] == "metadata"
        else event
        for event in events
    ]
