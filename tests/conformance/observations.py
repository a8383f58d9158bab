"""What is seen of a call, by its handler and by its client, as plain data that can be compared."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
from opentelemetry.trace import format_span_id, get_current_span

SOON_S = 6.0
NO_CODE = "has no code()"
OURS_ALONE = frozenset({"traceparent", "tracestate", "baggage"})
CONTEXT_NAMES = {
    "sync": (
        "abort abort_with_status add_callback auth_context cancel code details disable_next_message_compression "
        "invocation_metadata is_active peer peer_identities peer_identity_key send_initial_metadata set_code "
        "set_compression set_details set_trailing_metadata time_remaining trailing_metadata"
    ),
    "aio": (
        "abort abort_with_status add_done_callback auth_context cancelled code details "
        "disable_next_message_compression done invocation_metadata peer peer_identities peer_identity_key read "
        "send_initial_metadata set_code set_compression set_details set_trailing_metadata time_remaining "
        "trailing_metadata write"
    ),
    "plain": (
        "abort auth_context disable_next_message_compression invocation_metadata peer peer_identities "
        "peer_identity_key send_initial_metadata set_code set_compression set_details set_trailing_metadata "
        "time_remaining"
    ),
}


class Seen:
    """What a handler saw, `events`, and what it counted; one for each time that a case is run.

    flavour is "sync", "aio" (async handlers) or "plain" (plain functions on an asyncio server).
    """

    def __init__(self, flavour: str, stays: bool) -> None:
        self.flavour = flavour
        # Asked by a thread once the RPC is over, an asyncio server crashes.
        self.asks_peer = stays or flavour != "plain"
        self.events: list[Any] = []
        self.spans: list[str] = []
        self.closing_span: str | None = None
        self.received = self.sent = 0
        self.entered, self.ended, self.called_back = threading.Event(), threading.Event(), threading.Event()
        self.waiting, self.released = threading.Event(), threading.Event()

    @contextmanager
    def handling(self, context: Any) -> Iterator[None]:
        """Around all that the handler does."""
        self._enter(context)
        try:
            yield
        except GeneratorExit:
            self.events.append("closed")
            self.closing_span = current_span_id()
            raise
        except BaseException as error:
            self.events.append(("left by", type(error).__name__))
            self.note_span()
            raise
        else:
            self.note_span()
        finally:
            self.ended.set()

    def _enter(self, context: Any) -> None:
        sees = context.invocation_metadata()
        self.events += [
            ("metadata", plain(sees)),
            ("peer", context.peer().partition(":")[0] if self.asks_peer else None),
            ("has deadline", (context.time_remaining() or 1e9) < 1e6),
            ("lacks", [n for n in CONTEXT_NAMES[self.flavour].split() if not hasattr(context, n)]),
        ]
        self.note_span()
        add = getattr(context, "add_callback", None) or getattr(context, "add_done_callback", None)
        if self.flavour != "plain" and add and add(lambda *_: self.called_back.set()) is False:
            self.called_back.set()  # too late for a callback
        self.entered.set()

    def take(self, request: Any) -> Any:
        """The handler got a request."""
        self.received += 1
        self.events.append(("request", getattr(request, "value", request)))
        self.note_span()
        return request

    def note_span(self) -> None:
        """Note the id of the span that is current in the handler."""
        self.spans.append(current_span_id())

    def saw(self, expected: bool) -> list[Any]:
        """The events, once the handler has ended; expected is whether it must be called at all."""
        if expected:
            self.entered.wait(SOON_S)
        if self.entered.is_set():
            self.events.append(("ended", self.ended.wait(SOON_S)))
            if self.flavour != "plain":
                self.events.append(("called back", self.called_back.wait(SOON_S)))
        return self.events


def current_span_id() -> str:
    """The id of the current span; zeros where there is none."""
    return format_span_id(get_current_span().get_span_context().span_id)


def plain(value: Any) -> Any:
    """The value as plain data, without what differs from run to run."""
    if isinstance(value, grpc.StatusCode):
        return value.name
    if isinstance(value, str):
        value = re.sub(r" at 0x[0-9a-f]+", "", value)
        value = value.replace("Stream removed (Deadline Exceeded)", "Deadline Exceeded")
        value = re.sub(r"\(expected 2, got \d+\)", "(expected 2)", value)  # Python's own words, since 3.14
        return re.sub(r"(127\.0\.0\.1|::1%5D|::1\]):\d+", r"\1:PORT", value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (int, float, bytes)):
        return value
    pairs = [(item[0], plain(item[1])) if isinstance(item, tuple) else plain(item) for item in value]
    return [pair for pair in pairs if not (isinstance(pair, tuple) and pair[0] in OURS_ALONE)]


def error_seen(error: BaseException) -> dict[str, Any]:
    """What a client sees of an exception."""
    seen = {"raised": type(error).__name__, "is RpcError": isinstance(error, grpc.RpcError)}
    if not isinstance(error, grpc.RpcError) or not hasattr(error, "code"):
        return seen | {"says": plain(str(error))}
    return seen | call_seen(error)


def call_seen(call: Any) -> dict[str, Any]:
    """What a client sees of a call that has ended, or of the error it ended with."""
    if not hasattr(call, "code"):
        return {"call": NO_CODE}  # what a peer hands out for a stream
    return {
        "code": plain(call.code()),
        "details": plain(call.details()),
        "initial": plain(call.initial_metadata() or ()),
        "trailing": plain(call.trailing_metadata() or ()),
    }


async def aio_call_seen(call: Any) -> dict[str, Any]:
    """The same of an asyncio call, if that is what the client has."""
    if not hasattr(call, "code"):
        return {}
    names = ("code", "details", "initial_metadata", "trailing_metadata")
    answers = {name: await getattr(call, name)() for name in names}
    return call_seen(SimpleNamespace(**{name: lambda n=name: answers[n] for name in names}))


def attempt(act: Callable[[], Any]) -> Any:
    """What comes of it: the value, or what is seen of the exception."""
    try:
        return act()
    except Exception as error:
        return error_seen(error)
