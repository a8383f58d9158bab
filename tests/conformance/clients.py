"""The table that client behaviours are put into, and what blocking clients of one response do."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from tests.conformance.cases import KINDS, TIMEOUT_S, Case, attempt, call_seen, plain
from tests.conformance.drivers import collect
from tests.conformance.endings import SERVING
from tests.conformance.forms import aio_body, sync_body

ONE = KINDS[:2]
MANY = KINDS[2:]
SENDING = ("stream_unary", "stream_stream")
HOLD_S = 1.0


@dataclass(frozen=True)
class Behaviour:
    """What a client does, with which kinds of RPC, of a handler that ends how; see Case for the rest."""

    drive: Callable[[Any], Any]
    kinds: tuple[str, ...]
    ending: str
    client: str
    options: dict[str, Any]
    servers: tuple[str, ...]


BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(
    kinds: tuple[str, ...] = KINDS,
    ending: str = "answers",
    client: str = "sync",
    servers: tuple[str, ...] = ("sync", "aio", "plain"),
    **options: Any,
) -> Callable[[Any], Any]:
    """Put a function into the table of client behaviours, under its own name."""

    def put(drive: Any) -> Any:
        name = f"{client} client/{drive.__name__.replace('_', ' ')}"
        if name in BEHAVIOURS:
            raise ValueError(name)
        BEHAVIOURS[name] = Behaviour(drive, kinds, ending, client, options, servers)
        return drive

    return put


def client_cases() -> Iterator[Case]:
    """All of them."""
    for name, told in BEHAVIOURS.items():
        for kind in told.kinds:
            for server in told.servers:
                body = aio_body if server == "aio" else sync_body
                yield Case(
                    name=f"{name}/{kind}/{server} server",
                    flavour=server,
                    kind=kind,
                    handler=functools.partial(_served, body, kind, told.ending),
                    drive=told.drive,
                    client=told.client,
                    **told.options,
                )


def _served(body: Any, kind: str, ending: str, seen: Any) -> Any:
    return body(kind, seen, SERVING[ending])


def within(condition: Callable[[], Any], timeout_s: float = 2.0) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())


def ended(call: Any) -> dict[str, Any]:
    """Everything that a call object tells once it is over."""
    told: list[bool] = []
    call.add_done_callback(lambda given: told.append(given is call))
    return call_seen(call) | {
        "is_active": call.is_active(),
        "running": call.running(),
        "done": call.done(),
        "cancelled": call.cancelled(),
        "cancel again": call.cancel(),
        "result": plain(attempt(lambda: _kind_of(call.result(5)))),
        "exception": plain(attempt(lambda: _kind_of(call.exception(5)))),
        "traceback": plain(attempt(lambda: _kind_of(call.traceback(5)))),
        "done callback": within(lambda: told) and told,
        "is": [kind.__name__ for kind in (grpc.Call, grpc.Future, grpc.RpcError) if isinstance(call, kind)],
    }


def _kind_of(value: Any) -> Any:
    return value if value is None or isinstance(value, bytes) else type(value).__name__


def active(call: Any) -> dict[str, Any]:
    """What a call object tells while it goes on, without waiting."""
    return {
        "is_active": call.is_active(),
        "running": call.running(),
        "done": call.done(),
        "cancelled": call.cancelled(),
        "time_remaining": 0 < call.time_remaining() <= TIMEOUT_S,
        "add_callback": call.add_callback(lambda: None),
        "result in time": attempt(lambda: call.result(0.01)),
        "exception in time": attempt(lambda: call.exception(0.01)),
        "traceback in time": attempt(lambda: call.traceback(0.01)),
    }


@behaviour(ONE)
def blocks(client: Any) -> Any:
    return {"response": client.stub(client.request(), timeout=TIMEOUT_S)}


@behaviour(ONE, uncaught=False, ending="aborts")
def blocks_and_fails(client: Any) -> Any:
    return attempt(lambda: client.stub(client.request(), timeout=TIMEOUT_S))


@behaviour(ONE)
def with_call(client: Any) -> Any:
    response, call = client.stub.with_call(client.request(), TIMEOUT_S)
    seen = call_seen(call) | {"response": response, "is_active": call.is_active(), "cancel": call.cancel()}
    return seen | {"is Call": isinstance(call, grpc.Call), "add_callback": call.add_callback(lambda: None)}


@behaviour(ONE)
def future(client: Any) -> Any:
    call = client.stub.future(client.request(), timeout=TIMEOUT_S)
    return {"response": call.result()} | ended(call)


@behaviour(ONE, ending="aborts")
def future_fails(client: Any) -> Any:
    call = client.stub.future(client.request(), timeout=TIMEOUT_S)
    return {"raised": attempt(call.result)} | ended(call)


@behaviour(ONE, ending="waits")
def future_cancelled(client: Any) -> Any:
    call = client.stub.future(client.request(), timeout=TIMEOUT_S)
    called = threading.Event()
    call.add_done_callback(lambda _: called.set())
    within(client.seen.waiting.is_set)
    return {"while active": active(call), "cancel": call.cancel(), "called": called.wait(5)} | ended(call)


@behaviour(ONE, ending="waits", entered=False, racy=True, server_status="any", loose=True)
def future_cancelled_at_once(client: Any) -> Any:
    call = client.stub.future(client.request(), timeout=TIMEOUT_S)
    call.cancel()
    return ended(call)


@behaviour(ONE, ending="waits", racy=True)
def future_past_the_deadline(client: Any) -> Any:
    call = client.stub.future(client.request(), timeout=HOLD_S)
    return {"raised": attempt(call.result)} | ended(call)


@behaviour(ONE, ending="waits")
def future_dropped(client: Any) -> Any:
    call = client.stub.future(client.request(), timeout=TIMEOUT_S)
    within(client.seen.waiting.is_set)
    del call
    collect(time.monotonic())
    return {"gone": within(client.seen.ended.is_set, 1)}


@behaviour(ONE)
def future_dropped_with_a_callback(client: Any) -> Any:
    told: list[str] = []
    client.stub.future(client.request(), timeout=TIMEOUT_S).add_done_callback(
        lambda call: told.append(call.code().name)
    )
    return {"told": within(lambda: told) and told}


@behaviour(ONE)
def future_whose_callback_raises(client: Any) -> Any:
    call = client.stub.future(client.request(), timeout=TIMEOUT_S)
    told: list[str] = []
    call.add_done_callback(lambda _: 1 / 0)
    call.add_done_callback(lambda _: told.append("second"))
    return {"response": call.result(), "told": within(lambda: told) and told}


@behaviour(ONE)
def thousand_bytes_and_positional_arguments(client: Any) -> Any:
    return {"response": client.stub(client.request(bytes(1000)), TIMEOUT_S, (("k", "v"),), None, False, None)}


@behaviour(SENDING, racy=True, server_status="any", loose=True)
def requests_that_raise(client: Any) -> Any:
    def requests() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("no more")

    if client.streams:
        return attempt(lambda: list(client.stub(requests(), timeout=2)))
    return attempt(lambda: client.stub(requests(), timeout=2))


@behaviour(entered=False, ending="waits", server_status="any", loose=True, racy=True)
def unserializable_request(client: Any) -> Any:
    request: Any = 5 if client.case.kind.startswith("unary") else iter([5])
    if client.streams:
        return attempt(lambda: list(client.stub(request, timeout=2)))
    return attempt(lambda: client.stub(request, timeout=2))


@behaviour(ending="unparsable", server_status="OK", loose=True)
def unparsable_response(client: Any) -> Any:
    if not client.streams:
        return attempt(lambda: client.stub(client.request(), timeout=TIMEOUT_S))
    got: list[bytes] = []
    call = client.stub(client.request(), timeout=TIMEOUT_S)
    return {"raised": attempt(lambda: got.extend(call)), "code": plain(call.code()), "got": len(got) <= 2}
