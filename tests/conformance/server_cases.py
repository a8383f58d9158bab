"""The table of server behaviours: forms of handlers, crossed with ways to end."""

import functools
from collections.abc import Iterator
from typing import Any

from tests.conformance.cases import KINDS, TIMEOUT_S, Case
from tests.conformance.drivers import standard, standard_aio
from tests.conformance.endings import ENDINGS, FEW
from tests.conformance.forms import AIO, STREAM, UNARY, aio_body, sync_body

# An asyncio server refuses some forms that it can be given, and never runs their bodies.
# It calls a plain streaming handler on its loop. One that does all its work at once stops the
# loop by these, and by asking for requests, in bare grpcio too.
EAGER = ("list iterator", "list")
UNCALLED = ("callable object", "returns a coroutine", "next only")
BLOCKING = ("abort", "metadata", "slow")


def server_cases() -> list[Case]:
    """All of them."""
    return [*_plain_forms("sync"), *_plain_forms("plain"), *_aio_forms(), *_aio_clients()]


def _plain_forms(flavour: str) -> Iterator[Case]:
    for kind in KINDS:
        forms = STREAM if kind.endswith("stream") else UNARY
        for number, (form, make) in enumerate(forms.items()):
            for end in ENDINGS if number == 0 else FEW:
                if flavour == "plain" and _stops(kind, form, end):
                    continue

                def handler(seen: Any, kind: str = kind, make: Any = make, end: str = end) -> Any:
                    return make(sync_body(kind, seen, ENDINGS[end]))

                yield from _case(flavour, kind, form, end, handler)


def _stops(kind: str, form: str, end: str) -> bool:
    """Whether the case would stop an asyncio server's loop, or has nothing to add."""
    eager = form in EAGER and (end in BLOCKING or kind == "stream_stream")
    return eager or (form == "next only" and end != "return")


def _aio_forms() -> Iterator[Case]:
    for kind in KINDS:
        forms = dict.fromkeys(AIO, False) | {"read and write": True}
        if kind == "unary_unary":
            del forms["read and write"]
        for number, (form, by_read) in enumerate(forms.items()):
            for end in ENDINGS if number == 0 else ("return",) if form in UNCALLED else FEW:

                def handler(
                    seen: Any, kind: str = kind, form: str = form, end: str = end, by_read: bool = by_read
                ) -> Any:
                    return AIO.get(form, lambda body: body)(aio_body(kind, seen, ENDINGS[end], by_read))

                yield from _case("aio", kind, form, end, handler)


def _aio_clients() -> Iterator[Case]:
    """The endings once more, seen by an asyncio client."""
    for flavour, body in (("sync", sync_body), ("aio", aio_body)):
        for kind in KINDS:
            for end in ENDINGS:
                handler = functools.partial(_main_form, body, kind, end)
                yield from _case(flavour, kind, "aio client", end, handler, "aio")


def _main_form(body: Any, kind: str, end: str, seen: Any) -> Any:
    return body(kind, seen, ENDINGS[end])


def _case(flavour: str, kind: str, form: str, end: str, handler: Any, client: str = "sync") -> Iterator[Case]:
    ending = ENDINGS[end]
    racy = client == "aio" and kind.startswith("stream") and end == "unparsable request"
    if flavour in ending.not_for or racy:
        return
    drive = standard if client == "sync" else standard_aio
    yield Case(
        racy=flavour == "sync" and kind.startswith("stream") and end == "unparsable request",
        name=f"{flavour}/{kind}/{form}/{end}",
        flavour=flavour,
        kind=kind,
        handler=handler,
        drive=functools.partial(drive, request=ending.request, timeout_s=ending.timeout_s),
        client=client,
        entered=(ending.entered or kind.startswith("stream")) and not _is_uncalled(flavour, form),
        uncaught=_uncaught(form, end),
        server_status=ending.server_status,
        loose=ending.loose or form in EAGER or _is_uncalled(flavour, form),
        # A traceback, while somebody keeps it, keeps the generator of a response that was not serialized.
        stays=ending.timeout_s == TIMEOUT_S,
        closes=form not in {"iterator", "next only", "map"} and "wrong type" not in end,
    )


def _uncaught(form: str, end: str) -> bool | None:
    if form in (*UNCALLED, "list") or (form, end) == ("map", "wrong type"):  # the map makes bytes of anything
        return None
    return ENDINGS[end].uncaught


def _is_uncalled(flavour: str, form: str) -> bool:
    return form in UNCALLED and (flavour == "aio" or (flavour == "plain" and form == "next only"))
