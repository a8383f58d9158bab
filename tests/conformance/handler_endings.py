"""Every way in which a handler can end, the same for threaded and for asyncio servers."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.conformance.case import MANY, ONE, TIMEOUT_S, Reason
from tests.conformance.observations import Seen, plain

CODE = grpc.StatusCode
SLOW_S = 2.0
LATE_S = 0.1  # so late that the deadline has passed for the client, too
TRAILERS = (("trailing", "a"), ("trailing", "b"), ("trailing-bin", b"\x00\xff"))
Act = Callable[[Any, Seen], Any]


Uncaught = Callable[[str, str], bool]  # by the server's flavour and the kind of RPC


@dataclass(frozen=True)
class Ending:
    """How a handler ends: `act` gives the last response, raises, or gives something to await for either.

    A stream gives the responses of `before` first. The rest is as in Case.
    """

    act: Act
    request: bytes = b"request"
    timeout_s: float | None = TIMEOUT_S
    uncaught: Uncaught = lambda flavour, kind: False
    entered: bool = True
    server_status: str | None = None
    reason: Reason | None = None
    not_for: tuple[str, ...] = ()
    before: tuple[bytes, ...] = (b"1", b"2")


def rich() -> Any:
    """A status with details, as grpcio-status makes it."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="NO_SUCH_THING", domain="test.example"))
    return rpc_status.to_status(status_pb2.Status(code=code_pb2.NOT_FOUND, message="rich", details=[detail]))


def setting(code: Any, details: str | None = None, response: Any = b"done") -> Act:
    """Set a code, then return."""

    def act(context: Any, _: Seen) -> Any:
        context.set_code(code)
        if details is not None:
            context.set_details(details)
        return response

    return act


def aborting(code: Any, details: str) -> Act:
    """Abort with a code."""
    return lambda context, _: context.abort(code, details)


def raising(error: Callable[[], BaseException], code: Any = None, details: str = "") -> Act:
    """Raise, with a code set before or without."""

    def act(context: Any, _: Seen) -> Any:
        if code is not None:
            context.set_code(code)
            context.set_details(details)
        raise error()

    return act


def with_metadata(context: Any, seen: Seen) -> Any:
    """Trailing metadata, and initial metadata where no response has gone out yet."""
    context.set_trailing_metadata(TRAILERS)
    if seen.sent:
        return b"done"
    initial = (("initial", "a"), ("initial", "b"), ("initial-bin", b"\x00\xff"))
    sending = context.send_initial_metadata(initial)
    return _then(sending, b"done") if seen.flavour == "aio" else b"done"


async def _then(pending: Any, response: bytes) -> bytes:
    await pending
    return response


def initial_twice(context: Any, seen: Seen) -> Any:
    """Send initial metadata where it has gone out already."""

    async def twice() -> bytes:
        await context.send_initial_metadata((("initial", "a"),))
        await context.send_initial_metadata((("initial", "b"),))
        return b"done"

    if seen.flavour == "aio":
        return twice()
    context.send_initial_metadata((("initial", "a"),))
    context.send_initial_metadata((("initial", "b"),))
    return b"done"


def abort_with_trailers(context: Any, seen: Seen) -> Any:
    context.set_trailing_metadata((("trailing", "a"), ("trailing", "b")))
    return context.abort(CODE.NOT_FOUND, "with trailers")


def abort_swallowed(context: Any, seen: Seen) -> Any:
    """The handler catches what abort raises, and returns."""

    async def awaited(aborting: Any) -> bytes:
        with suppress(Exception):
            await aborting
        return b"done"

    try:
        pending = context.abort(CODE.NOT_FOUND, "swallowed")
    except Exception:
        return b"done"
    return awaited(pending)


def raise_after_abort(context: Any, seen: Seen) -> Any:
    """The handler raises another exception from within what abort raises."""

    async def awaited(aborting: Any) -> bytes:
        try:
            await aborting
        except Exception as error:
            raise ValueError("after the abort") from error
        raise AssertionError

    try:
        pending = context.abort(CODE.NOT_FOUND, "aborted first")
    except Exception as error:
        raise ValueError("after the abort") from error
    return awaited(pending)


def slow(context: Any, seen: Seen) -> Any:
    """Go on until the deadline has passed, and then return as if nothing were."""
    if seen.flavour == "aio":
        return asyncio.sleep(TIMEOUT_S, b"late")
    end = time.monotonic() + TIMEOUT_S
    while _waited_for(context, seen) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(LATE_S)
    return b"late"


def _waited_for(context: Any, seen: Seen) -> bool:
    """Whether the client still waits, as far as the context knows."""
    return bool(context.is_active() if seen.flavour == "sync" else context.time_remaining() > 0)


def slow_then_raise(context: Any, seen: Seen) -> Any:
    """Raise once the deadline has passed."""
    if seen.flavour == "aio":
        return asyncio.sleep(TIMEOUT_S, b"late")
    slow(context, seen)
    raise ValueError("late")


def asks_context(context: Any, seen: Seen) -> bytes:
    """Set a status, and ask the context for it."""
    context.set_code(CODE.OUT_OF_RANGE)
    context.set_details("asked")
    context.set_trailing_metadata((("k", "v"),))
    if seen.flavour != "plain":
        seen.events.append(
            ("code", plain(context.code()), context.details(), list(context.trailing_metadata()))
        )
    return b"done"


def cancels(context: Any, seen: Seen) -> Any:
    """The handler cancels its own RPC."""
    context.cancel()
    return b"done"


def waits(context: Any, seen: Seen) -> Any:
    """Go on until the client is gone, or the case lets go; note which."""
    seen.waiting.set()
    if seen.flavour == "aio":
        return _waits(seen)
    while not seen.released.wait(0.01):
        if not _waited_for(context, seen):
            seen.events.append("client gone")
            time.sleep(LATE_S)
            return b"late"
    return b"done"


async def _waits(seen: Seen) -> bytes:
    try:
        while not seen.released.is_set():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        seen.events.append("client gone")
        raise
    return b"done"


def always(flavour: str, kind: str) -> bool:
    return True


NO_RICH = ("plain",)  # the context of a plain function on an asyncio server has no such method
# Who lets an exception out: None cannot be serialized, but is not yielded by a stream; an asyncio server serializes
# no single response beside a code that is not OK; there abort(OK) fails an assertion of grpcio's own.
ENDINGS: dict[str, Ending] = {
    "return": Ending(lambda context, _: b"done"),
    "return empty": Ending(lambda context, _: b""),
    "return None": Ending(lambda context, _: None, uncaught=lambda _, kind: kind in ONE),
    "wrong type": Ending(lambda context, _: 5, uncaught=always),
    "unparsable request": Ending(lambda context, _: b"done", b"unparsable", uncaught=always, entered=False),
    "raise": Ending(raising(lambda: ValueError("broken")), uncaught=always),
    "raise key error": Ending(raising(lambda: KeyError("key")), uncaught=always),
    "raise bare exception": Ending(raising(Exception), uncaught=always),
    "raise RpcError": Ending(raising(grpc.RpcError), uncaught=always),
    "set code then raise": Ending(
        raising(lambda: ValueError("broken"), CODE.DATA_LOSS, "said before"), uncaught=always
    ),
    "set OK then raise": Ending(
        raising(lambda: ValueError("broken"), CODE.OK, "said before"), uncaught=always
    ),
    "abort": Ending(aborting(CODE.NOT_FOUND, "no such thing")),
    "abort unavailable": Ending(aborting(CODE.UNAVAILABLE, "come back")),
    "abort umlaut": Ending(aborting(CODE.INTERNAL, "größer €")),
    "abort OK": Ending(
        aborting(CODE.OK, "fine"),
        timeout_s=SLOW_S,
        uncaught=lambda flavour, _: flavour == "aio",
        server_status="UNKNOWN",
    ),
    "abort int": Ending(aborting(5, "five")),
    "abort with status": Ending(lambda context, _: context.abort_with_status(rich()), not_for=NO_RICH),
    "abort with trailers": Ending(abort_with_trailers),
    "abort swallowed": Ending(abort_swallowed),
    "raise after abort": Ending(raise_after_abort, reason=Reason.ABORTED_AND_RAISED),
    "set code": Ending(setting(CODE.ALREADY_EXISTS, "there already")),
    "set code alone": Ending(setting(CODE.INTERNAL)),
    "set code, return None": Ending(
        setting(CODE.NOT_FOUND, "nothing", None),
        uncaught=lambda flavour, kind: flavour == "sync" and kind in ONE,
    ),
    "set code int": Ending(setting(7, "seven")),
    "set code int zero": Ending(setting(0, "zero")),
    "set code unknown int": Ending(setting(77, "out of range")),
    "set code OK": Ending(setting(CODE.OK, "fine")),
    "set code, wrong type": Ending(
        setting(CODE.NOT_FOUND, "odd", 5), uncaught=lambda flavour, kind: flavour == "sync" or kind in MANY
    ),
    "metadata": Ending(with_metadata),
    "initial metadata twice": Ending(initial_twice, uncaught=always),
    "asks context": Ending(asks_context),
    "cancels": Ending(cancels, not_for=("aio", "plain")),
    "slow": Ending(slow, timeout_s=SLOW_S),
    "slow then raise": Ending(slow_then_raise, timeout_s=SLOW_S),
    "SystemExit": Ending(raising(lambda: SystemExit(3)), timeout_s=SLOW_S, not_for=("aio", "plain")),
}
SERVING: dict[str, Ending] = {
    "answers": ENDINGS["return"],
    "aborts": ENDINGS["abort with trailers"],
    "metadata": ENDINGS["metadata"],
    "waits": Ending(waits),
    "unparsable": Ending(lambda context, _: b"unparsable"),
    "large": Ending(lambda context, _: bytes(100_000)),
}
FEW = ("return", "raise", "abort", "set code", "wrong type", "metadata", "set code then raise", "slow")
