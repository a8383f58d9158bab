"""What callers send along with a call: whose trace is continued, and how much of it is read and sent on.

Formats: https://www.w3.org/TR/trace-context/ and https://www.w3.org/TR/baggage/
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import Link, get_current_span

from observability.call import Metadata, Record
from observability.tally import Tally

MAX_HEADER = 8192  # of any header that a propagator reads; a baggage is cut there
MAX_BAGGAGE_MEMBERS = 64
MAX_BAGGAGE_MEMBER = 4096
MAX_BAGGAGE_SENT = 4096  # gRPC's servers begin to refuse calls at 8192 bytes of metadata in all
MAX_TRACESTATE = 512
MAX_TRACESTATE_MEMBERS = 32
LONG_TRACESTATE_MEMBER = 128  # these go first where a tracestate is too long
MAX_VALUE = 1024  # characters of a text of the caller's that becomes an attribute
MAX_VALUES = 16
HEADERS = 256

HEADER = re.compile(r"[a-z0-9_.-]+(?<!-bin)")
STATE = re.compile(
    r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_TOKEN, _SPACE = r"[!#-'*+.0-9A-Z^-z|~-]+", r"[ \t]*"
_PAIR = rf"{_SPACE}{_TOKEN}{_SPACE}={_SPACE}[!#-+\--:<-\[\]-~]*{_SPACE}"
MEMBER = re.compile(rf"{_PAIR}(?:;(?:{_PAIR}|{_SPACE}{_TOKEN}{_SPACE}))*")

PublicEndpoint = bool | Callable[[Record], bool]


class Callers:
    """Says whose traces are continued: public is True for nobody's, False for everybody's, or a function that
    is given the record. Where that raises, the failure is counted, and the caller is a stranger.
    """

    def __init__(self, public: PublicEndpoint, tally: Tally) -> None:
        self._public = public
        self._tally = tally

    def are_trusted(self, record: Record) -> bool:
        """Whether the trace of this call's caller is continued."""
        if isinstance(self._public, bool):
            return not self._public
        try:
            return not self._public(record)
        except Exception:
            self._tally.failure("public_endpoint")
            return False


def joined(extracted: Context, current: Context, *, is_trusted: bool) -> tuple[Context, Sequence[Link]]:
    """The context that a span starts in, and its links, by what was extracted of the caller's headers.

    Of a stranger, nothing is in the context: no parent, so that our own sampler decides, and no baggage.
    """
    if is_trusted:
        return extracted, ()
    theirs = get_current_span(extracted).get_span_context()
    return current, (Link(theirs),) if theirs.is_valid else ()


def shown(value: Any) -> Any:
    """A caller's text, or list of texts, as an attribute shows it."""
    if isinstance(value, str):
        return value[:MAX_VALUE]
    return [text[:MAX_VALUE] for text in value[:MAX_VALUES]] if isinstance(value, list | tuple) else value


def baggage(text: str, longest: int = MAX_HEADER) -> str:
    """The first 64 members that fit into that many characters, without those that are malformed.

    Propagators log each malformed one, with its text, and what they do costs the square of the members.
    """
    if len(text) > longest:
        text = text[: longest + 1].rpartition(",")[0]
    members = text.split(",", MAX_BAGGAGE_MEMBERS)[:MAX_BAGGAGE_MEMBERS]
    return ",".join(part for part in members if len(part) <= MAX_BAGGAGE_MEMBER and MEMBER.fullmatch(part))


def tracestate(text: str) -> str:
    """Members that fit into 512 characters, by W3C's rule: long ones go first, then those at the end.

    Nothing where one is malformed, or there are more than 32.
    """
    if len(text) > MAX_HEADER:
        return ""
    members = [part for given in text.split(",") if (part := given.strip(" \t"))]
    if len(members) > MAX_TRACESTATE_MEMBERS or not all(map(STATE.fullmatch, members)):
        return ""
    if len(",".join(members)) > MAX_TRACESTATE:
        members = [part for part in members if len(part) <= LONG_TRACESTATE_MEMBER]
    while len(kept := ",".join(members)) > MAX_TRACESTATE:
        members.pop()
    return kept


RULES: dict[str, Callable[[str], str]] = {"baggage": baggage, "tracestate": tracestate}


class Bounded(Getter[Any]):
    """Gives a propagator no more of a header than it may take; a repeated one is one, with commas between."""

    def __init__(self, inner: Getter[Any]) -> None:
        self._inner = inner

    def get(self, carrier: Any, key: str) -> list[str] | None:
        """The header's value, if there is one to use."""
        values = self._inner.get(carrier, key)
        if not values:
            return None
        value = ",".join(values)
        if rule := RULES.get(key.lower()):
            value = rule(value)
        return [value] if 0 < len(value) <= MAX_HEADER else None

    def keys(self, carrier: Any) -> list[str]:
        """The names of the headers."""
        return self._inner.keys(carrier)


class _Metadata(Getter[Metadata]):
    """Reads gRPC's metadata: keys are lower case and may repeat, binary values are bytes."""

    def get(self, carrier: Metadata, key: str) -> list[str] | None:
        key = key.lower()
        return [value for name, value in carrier if name == key and isinstance(value, str)] or None

    def keys(self, carrier: Metadata) -> list[str]:
        return [name for name, _ in carrier]


METADATA = Bounded(_Metadata())


class Sent(Setter[list[tuple[str, str]]]):
    """Collects what a propagator sends along; gRPC's metadata wants its keys in lower case.

    What gRPC would refuse, and with it the call, stays behind: too long a tracestate or baggage is cut, the
    rest is counted as a failure.
    """

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed

    def set(self, carrier: list[tuple[str, str]], key: str, value: str) -> None:
        """Take one header."""
        try:
            header = _header(key)
            if not (value.isascii() and value.isprintable()):
                raise ValueError(f"the value of a propagator's header {key!r} must be printable ASCII")
            if header == "tracestate":
                value = tracestate(value)
            elif header == "baggage":
                value = baggage(value, MAX_BAGGAGE_SENT)
            if value:
                carrier.append((header, value))
        except Exception:
            self._failed()


@lru_cache(maxsize=HEADERS)
def _header(key: str) -> str:
    lower = key.lower()
    if not HEADER.fullmatch(lower):
        raise ValueError(f"a propagator's header must be a key of gRPC's metadata, got {key!r}")
    return lower
