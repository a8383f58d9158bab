"""The plainest client of each kind: calls, takes all that comes, and tells what it saw."""

import gc
import threading
import time
from typing import Any

import grpc
from opentelemetry.trace import get_current_span

from tests.conformance.cases import TIMEOUT_S, call_seen, deserialize, error_seen, serialize

_collecting = threading.Lock()
_collected_s = [0.0]


def collect(dropped_s: float) -> None:
    """Collect garbage, unless that has been done since dropped_s: each time stops all that is going on."""
    with _collecting:
        if _collected_s[0] <= dropped_s:
            _collected_s[0] = time.monotonic()
            gc.collect()


class Client:
    """What a case's client has: the method's multi-callable, the case, what its handler saw so far."""

    def __init__(self, channel: Any, case: Any, seen: Any, world: Any) -> None:
        self.channel, self.case, self.seen, self.world = channel, case, seen, world
        self.stub = getattr(channel, case.kind)(case.method, serialize, deserialize)
        self.spans: list[bool] = []
        self.target = world.targets[case.flavour, case.transport]
        self.streams = case.kind.endswith("stream")

    def note_span(self) -> None:
        """Note whether a span is current in the caller's code, which has none of its own."""
        self.spans.append(get_current_span().get_span_context().is_valid)

    def request(self, request: bytes = b"request") -> Any:
        """One request, or an iterator of three."""
        if self.case.kind.startswith("unary"):
            return request
        return iter([b"first", request, b"last"])


def standard(client: Client, request: bytes = b"request", timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
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
            client.note_span()
    except grpc.RpcError as error:
        return {"responses": responses} | error_seen(error)
    return {"responses": responses} | call_seen(call)


async def standard_aio(
    client: Client, request: bytes = b"request", timeout_s: float = TIMEOUT_S
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
            client.note_span()
    except grpc.RpcError as error:
        return {"responses": responses} | error_seen(error)
    return {"responses": responses} | await aio_call_seen(call)


async def aio_call_seen(call: Any) -> dict[str, Any]:
    """What a client sees of an asyncio call that has ended."""

    class Ended:
        """Its answers, which need no more waiting."""

        def __init__(self, answers: dict[str, Any]) -> None:
            self._answers = answers

        def __getattr__(self, name: str) -> Any:
            return lambda: self._answers[name]

    names = ("code", "details", "initial_metadata", "trailing_metadata")
    return call_seen(Ended({name: await getattr(call, name)() for name in names}))
