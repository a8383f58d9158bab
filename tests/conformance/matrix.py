"""All cases: handlers of every form with every ending, and what clients do, with every kind of server."""

import functools
from collections.abc import Iterator
from itertools import product
from typing import Any

from tests.conformance import asyncio_clients, blocking_clients, client_options  # noqa: F401  (they make cases)
from tests.conformance.case import HAS_IPV6, KINDS, MANY, TIMEOUT_S, Case, Reason
from tests.conformance.client_behaviours import CLIENT_CASES, standard, standard_aio
from tests.conformance.handler_endings import ENDINGS, FEW
from tests.conformance.handler_forms import AIO, STREAM, UNARY, aio_body, same, sync_body

# An asyncio server refuses some forms that it can be given, and never runs their bodies.
# It calls a plain streaming handler on its loop. One that does all its work at once stops the
# loop by these, and by asking for requests, in bare grpcio too.
EAGER = ("list iterator", "list")
UNRUN = {"aio": ("callable object", "returns a coroutine"), "plain": ("next only",), "sync": ()}
BLOCKING = ("abort", "metadata", "slow")
NO_CLOSE = ("iterator", "next only", "map")


def _plain_forms(flavour: str) -> Iterator[Case]:
    for kind in KINDS:
        forms = STREAM if kind in MANY else UNARY
        for number, (form, make) in enumerate(forms.items()):
            for end in ENDINGS if number == 0 else FEW:
                if flavour == "sync" or not _stops(kind, form, end):
                    yield from _case(
                        flavour, kind, form, end, functools.partial(_handler, make, sync_body, kind, end)
                    )


def _handler(make: Any, body: Any, kind: str, end: str, seen: Any) -> Any:
    return make(body(kind, seen, ENDINGS[end]))


def _stops(kind: str, form: str, end: str) -> bool:
    """Whether the case would stop an asyncio server's loop, or has nothing to add."""
    eager = form in EAGER and (end in BLOCKING or kind == "stream_stream")
    return eager or (form == "next only" and end != "return")


def _aio_forms() -> Iterator[Case]:
    by_read = functools.partial(aio_body, by_read=True)
    for kind in KINDS:
        forms = {form: (make, aio_body) for form, make in AIO.items()} | {"read and write": (same, by_read)}
        if kind == "unary_unary":
            del forms["read and write"]
        for number, (form, (make, body)) in enumerate(forms.items()):
            for end in ENDINGS if number == 0 else ("return",) if form in UNRUN["aio"] else FEW:
                yield from _case("aio", kind, form, end, functools.partial(_handler, make, body, kind, end))


def _aio_clients() -> Iterator[Case]:
    """The endings once more, seen by an asyncio client."""
    for (flavour, body), kind, end in product({"sync": sync_body, "aio": aio_body}.items(), KINDS, ENDINGS):
        handler = functools.partial(_handler, same, body, kind, end)
        yield from _case(flavour, kind, "aio client", end, handler, "aio")


def _case(flavour: str, kind: str, form: str, end: str, handler: Any, client: str = "sync") -> Iterator[Case]:
    ending = ENDINGS[end]
    cut_off = kind.startswith("stream") and end == "unparsable request"
    if flavour in ending.not_for or (cut_off and client == "aio"):  # what this client sees depends on timing
        return
    drive = standard if client == "sync" else standard_aio
    yield Case(
        name=f"{flavour}/{kind}/{form}/{end}",
        flavour=flavour,
        kind=kind,
        handler=handler,
        drive=functools.partial(drive, request=ending.request, timeout_s=ending.timeout_s),
        client=client,
        entered=(ending.entered or kind.startswith("stream")) and form not in UNRUN[flavour],
        uncaught=_uncaught(flavour, kind, form, end),
        server_status=ending.server_status,
        stays=ending.timeout_s == TIMEOUT_S,
        reason=_reason(flavour, kind, form, end),
    )


def _uncaught(flavour: str, kind: str, form: str, end: str) -> bool:
    """Whether an exception leaves the handler. A threaded server takes no list for an iterator; map makes bytes
    of anything; what an asyncio server does not run it cannot serialize.
    """
    if form == "list" and flavour == "sync":
        return end not in {"abort", "slow"}
    if (form, end) == ("map", "wrong type"):
        return False
    return form in UNRUN[flavour] or ENDINGS[end].uncaught(flavour, kind)


def _reason(flavour: str, kind: str, form: str, end: str) -> Reason | None:
    if form in UNRUN[flavour]:
        return Reason.HANDLER_UNRUN
    if end == "unparsable request" and kind.startswith("stream"):
        return Reason.RACE if flavour == "sync" else Reason.UNPARSABLE
    # What has no close() is not closed; what could not be serialized leaves a traceback that keeps the generator.
    if flavour == "sync" and kind in MANY and ((end == "slow" and form in NO_CLOSE) or "wrong type" in end):
        return Reason.GARBAGE
    return ENDINGS[end].reason


CASES: tuple[Case, ...] = tuple(
    case
    for case in (*_plain_forms("sync"), *_plain_forms("plain"), *_aio_forms(), *_aio_clients(), *CLIENT_CASES)
    if HAS_IPV6 or case.transport != "ipv6"
)
