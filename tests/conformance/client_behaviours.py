"""The table of what clients do, and what most of them need: the plainest client, and ways to wait."""

import asyncio
import functools
import gc
import threading
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import grpc
from opentelemetry.trace import get_current_span

from tests.conformance.case import KINDS, TIMEOUT_S, Case, deserialize, serialize
from tests.conformance.handler_endings import SERVING
from tests.conformance.handler_forms import aio_body, sync_body
from tests.conformance.observations import aio_call_seen, call_seen, error_seen

HOLD_S = 1.0
SENDING = ("stream_unary", "stream_stream")
PLAIN = ("unary_unary", "unary_stream")
CLIENT_CASES: list[Case] = []
_collecting = threading.Lock()
_collected_s = [0.0]


def behaviour(
    kinds: tuple[str, ...] = KINDS,
    ending: str = "answers",
    name: str = "",
    client: str = "sync",
    servers: tuple[str, ...] = ("sync", "aio", "plain"),
    **options: Any,
) -> Callable[[Any], Any]:
    """Make cases of what a client does, under this or the function's name: with these kinds of RPC and servers,
    of a handler that ends so; options are more fields of Case.
    """

    def put(drive: Any) -> Any:
        title = name or drive.__name__.replace("_", " ")
        CLIENT_CASES.extend(
            Case(
                name=f"{client} client/{title}/{kind}/{server} server",
                flavour=server,
                kind=kind,
                handler=functools.partial(_handler, kind, server, ending),
                drive=drive,
                client=client,
                **options,
            )
            for kind, server in product(kinds, servers)
        )
        return drive

    return put


def _handler(kind: str, server: str, ending: str, seen: Any) -> Any:
    return (aio_body if server == "aio" else sync_body)(kind, seen, SERVING[ending])


class Client:
    """What a case's client has: the method's multi-callable, the case, what its handler saw so far."""

    def __init__(self, channel: Any, case: Case, seen: Any, world: Any) -> None:
        self.channel, self.case, self.seen, self.world = channel, case, seen, world
        self.stub = self.stub_on(channel)
        self.spans: list[bool] = []
        self.target = world.targets[case.flavour, case.transport]
        self.streams = case.kind.endswith("stream")

    def stub_on(self, channel: Any, method: str = "") -> Any:
        """The multi-callable of the case's kind on a channel."""
        return getattr(channel, self.case.kind)(method or self.case.method, serialize, deserialize)

    def note_span(self) -> None:
        """Note whether a span is current in the caller's code, which starts none."""
        self.spans.append(get_current_span().get_span_context().is_valid)

    def request(self, request: bytes = b"request") -> Any:
        """One request, or an iterator of three."""
        if self.case.kind.startswith("unary"):
            return request
        return iter([b"first", request, b"last"])

    def started(self, timeout_s: float = TIMEOUT_S, **options: Any) -> Any:
        """The call, made."""
        return self.stub(self.request(), timeout=timeout_s, **options)


def standard(
    client: Client, request: bytes = b"request", timeout_s: float | None = TIMEOUT_S
) -> dict[str, Any]:
    """Call with a deadline; give the responses, and how it ended."""
    responses: list[bytes] = []
    try:
        if client.streams:
            call = client.stub(client.request(request), timeout=timeout_s)
            for response in call:
                responses.append(response)
                client.note_span()
        else:
            response, call = client.stub.with_call(client.request(request), timeout=timeout_s)
            responses.append(response)
    except grpc.RpcError as error:
        return {"responses": responses} | error_seen(error)
    return {"responses": responses} | call_seen(call)


async def standard_aio(
    client: Client, request: bytes = b"request", timeout_s: float | None = TIMEOUT_S
) -> dict[str, Any]:
    """The same on asyncio."""
    responses: list[bytes] = []
    call = client.stub(client.request(request), timeout=timeout_s)
    try:
        if client.streams:
            async for response in call:
                responses.append(response)
                client.note_span()
        else:
            responses.append(await call)
    except grpc.RpcError as error:
        return {"responses": responses} | error_seen(error)
    return {"responses": responses} | await aio_call_seen(call)


def collect(dropped_s: float) -> None:
    """Collect garbage, unless that has been done since dropped_s: each time stops all that is going on."""
    with _collecting:
        if _collected_s[0] <= dropped_s:
            _collected_s[0] = time.monotonic()
            gc.collect()


def within(condition: Callable[[], Any], timeout_s: float = 2.0) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())


async def until(condition: Any, timeout_s: float = 2.0) -> bool:
    """Whether it comes true in time."""
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return True
        await asyncio.sleep(0.005)
    return bool(condition())
