"""HTTP for the tools: short timeouts, and never through a proxy."""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

TIMEOUT_S = 5.0
POLL_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: Message
    text: str


def ask(
    url: str,
    timeout_s: float = TIMEOUT_S,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """GET the address, over https with the context. Raises OSError when there is no answer."""
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    try:
        with opener.open(Request(url, headers=dict(headers or {})), timeout=timeout_s) as answer:  # noqa: S310
            return Answer(answer.status, answer.headers, answer.read().decode(errors="replace"))
    except HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode(errors="replace"))
    except HTTPException as error:
        raise OSError(f"the answer must be HTTP, got {error!r}") from error


def ask_json(url: str) -> Any:
    """GET the address and parse it. Raises OSError when there is no answer, or one that is no JSON."""
    answer = ask(url)
    try:
        return json.loads(answer.text)
    except ValueError as error:
        raise OSError(f"{url} must answer with JSON, got {answer.status} without it") from error


def within(timeout_s: float, condition: Callable[[], T]) -> T:
    """The condition's first true value, or its last one when timeout_s seconds are over."""
    end = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(POLL_S)
    return value
