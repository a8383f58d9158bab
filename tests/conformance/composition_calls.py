"""The calls of a composition: every kind of RPC with every end, on a server and a channel with layers of interceptors."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue
from grpc_interceptor.exceptions import NotFound
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, use_span

from observability.testing import eventually
from tests.conformance.case import MANY, TIMEOUT_S
from tests.conformance.client_behaviours import until
from tests.conformance.handler_endings import ENDINGS, SERVING, TRAILERS, Ending, raising
from tests.conformance.handler_forms import aio_body, sync_body
from tests.conformance.observations import Seen, aio_call_seen, call_seen, error_seen
from tests.conformance.servers import Loop

SERVICE = "composition.Cases"
DEADLINE_S = 3.0
WORKERS = 40
SENT = (("own", "a"), ("own", "b"))
TRACING_KEYS = frozenset({"sentry-trace"})  # random; observations leave out OpenTelemetry's

Layer = Callable[[Any], Any]  # from a channel to a channel


def fails_twice(context: Any, seen: Seen) -> Any:
    """Abort the first two attempts, answer the third."""
    return context.abort(grpc.StatusCode.UNAVAILABLE, "not yet") if attempts(seen) < 3 else b"done"


def attempts(seen: Seen) -> int:
    """How often the handler was entered."""
    return sum(event[0] == "metadata" for event in seen.events)


ENDS = {
    "returns": ENDINGS["return"],
    "raises": ENDINGS["raise"],
    "sets code then raises": ENDINGS["set code then raise"],
    "aborts": ENDINGS["abort"],
    "sets code": ENDINGS["set code"],
    "aborts with status": ENDINGS["abort with status"],
    "deadline passes": replace(ENDINGS["slow"], timeout_s=DEADLINE_S),
    "client cancels": SERVING["waits"],
    "client leaves": SERVING["waits"],
}
MORE_ENDS = {
    "raises a status": Ending(raising(lambda: NotFound("not there"))),
    "fails twice": Ending(fails_twice, before=()),
    "default deadline passes": replace(ENDINGS["slow"], timeout_s=None),
    "refused": replace(ENDINGS["return"], entered=False),
}
ALL_ENDS = ENDS | MORE_ENDS


@dataclass(frozen=True)
class Call:
    """One call of a composition; its path names it."""

    kind: str
    end: str

    @property
    def method(self) -> str:
        """The method, as telemetry names it."""
        return f"{SERVICE}/{self.kind}.{self.end.replace(' ', '_')}"

    @property
    def ending(self) -> Ending:
        """What its handler does."""
        return ALL_ENDS[self.end]

    @property
    def streams(self) -> bool:
        """Whether it has many responses."""
        return self.kind in MANY

    @property
    def is_left(self) -> bool:
        """Whether the client does not wait for its end."""
        return self.end.startswith("client")

    @property
    def has_deadline(self) -> bool:
        """Whether it ends by its deadline."""
        return "deadline" in self.end


def message(value: Any) -> Any:
    """A response, unless there is none: bytes are iterable, and some interceptors take them for a stream."""
    return value if value is None else BytesValue(value=value)


def with_trailers(ending: Ending) -> Ending:
    """The ending, after trailing metadata has been set."""

    def act(context: Any, seen: Seen) -> Any:
        context.set_trailing_metadata(TRAILERS)
        return ending.act(context, seen)

    return replace(ending, act=act)


class Handlers(grpc.GenericRpcHandler):
    """The handlers of some calls; what each saw is kept in `seen`."""

    def __init__(self, calls: Sequence[Call], flavour: str) -> None:
        self.seen = {call: Seen(flavour, True) for call in calls}
        body: Any = aio_body if flavour == "aio" else sync_body
        self._handlers = {
            f"/{call.method}": getattr(grpc, f"{call.kind}_rpc_method_handler")(
                body(call.kind, seen, with_trailers(call.ending), message=message),
                BytesValue.FromString,
                BytesValue.SerializeToString,
            )
            for call, seen in self.seen.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method."""
        return self._handlers.get(handler_call_details.method)


class Pair:
    """A server and a channel to it, with interceptors on both; to be closed."""

    def __init__(
        self,
        flavour: str,
        handlers: Handlers,
        loop: Loop,
        server: Sequence[Any],
        client: Callable[[str], Sequence[Any]],
    ) -> None:
        self._loop, self.is_aio = loop, flavour == "aio"
        self._ends = ExitStack()
        pool = self._ends.enter_context(ThreadPoolExecutor(WORKERS))
        (self._start_aio if self.is_aio else self._start)(pool, list(server), handlers, client)

    def _start(self, pool: Any, interceptors: Any, handlers: Handlers, client: Any) -> None:
        server = grpc.server(pool, interceptors=interceptors)
        server.add_generic_rpc_handlers((handlers,))
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self._ends.callback(lambda: server.stop(0).wait(10))
        channel = self._ends.enter_context(grpc.insecure_channel(target))
        for layer in reversed(client(target)):
            channel = layer(channel) if callable(layer) else grpc.intercept_channel(channel, layer)
        self.channel: Any = channel

    def _start_aio(self, pool: Any, interceptors: Any, handlers: Handlers, client: Any) -> None:
        async def start() -> Any:
            server = grpc.aio.server(pool, interceptors=interceptors)
            server.add_generic_rpc_handlers((handlers,))
            target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            self.channel = grpc.aio.insecure_channel(target, interceptors=list(client(target)))
            return server

        server = self._loop.run(start())
        self._ends.callback(lambda: self._loop.run(server.stop(0)))
        self._ends.callback(lambda: self._loop.run(self.channel.close()))

    def make(self, call: Call, seen: Seen, trace_id: int, wrap: Layer) -> Any:
        """Make the call below a caller's span; give what the client saw. wrap is around the multi-callable."""
        stub = getattr(self.channel, call.kind)(
            f"/{call.method}", BytesValue.SerializeToString, BytesValue.FromString
        )
        client = Client(call, wrap(stub), seen, trace_id)
        with use_span(client.caller):
            return self._loop.run(client.run_aio()) if self.is_aio else client.run()

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()


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
        status = seen.pop("status", "CANCELLED" if self._call.is_left else code)
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
            return stub(request, timeout=self._call.ending.timeout_s, metadata=SENT)
        finally:
            self._note()

    def run(self) -> dict[str, Any]:
        """Make it, blocking."""
        acts = {"client cancels": self._cancel, "client leaves": self._leave}
        try:
            seen = acts.get(self._call.end, self._whole)()
        except Exception as error:
            seen = self._error(error)
        self._note()
        return self._saw(seen)

    def _error(self, error: BaseException) -> dict[str, Any]:
        named = getattr(error, "grpc_status_code", None)  # google.api_core's
        return error_seen(error) | ({"status": named.name} if named else {})

    def _whole(self) -> dict[str, Any]:
        if self._call.streams:
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
        call = self._start(self._stub if self._call.streams else self._stub.future)
        if self._call.streams:
            self._take(next(call))
            self._take(next(call))
        eventually(self._seen.waiting.is_set)
        (call.cancel if hasattr(call, "cancel") else call.close)()  # a plain generator cannot cancel
        try:
            ended: Any = [*call] if self._call.streams else call.result()
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
        act = self._stop_aio if self._call.is_left else self._whole_aio
        with use_span(self.caller):
            try:
                seen = await act()
            except (Exception, asyncio.CancelledError) as error:
                seen = self._error(error)
            self._note()
        return self._saw(seen)

    async def _whole_aio(self) -> dict[str, Any]:
        call = await self._start_aio()
        if self._call.streams:
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
        return await call if self._call.streams else asyncio.ensure_future(call)

    async def _stop_aio(self) -> dict[str, Any]:
        """Cancel: after all that there is, or after the first response."""
        call = await self._start_aio()
        first = 0 if not self._call.streams else 1 if self._call.end == "client leaves" else 2
        responses = aiter(call) if first else None
        for _ in range(first):
            self._take(await anext(responses))  # type: ignore[arg-type]
        await until(self._seen.waiting.is_set, TIMEOUT_S)
        call.cancel()
        try:
            ended = [each async for each in responses] if responses else await call
        except (Exception, asyncio.CancelledError) as error:
            return self._error(error) | await aio_call_seen(call)
        return {"ended": ended} | await aio_call_seen(call)


def handler_saw(call: Call, seen: Seen) -> list[Any]:
    """What the handler saw, without what is random; the case lets go of it."""
    events = seen.saw(call.ending.entered)
    seen.released.set()
    return [
        (event[0], [pair for pair in event[1] if pair[0] not in TRACING_KEYS])
        if event[0] == "metadata"
        else event
        for event in events
    ]
