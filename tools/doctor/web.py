"""HTTP as the doctor speaks it: short, and never through a proxy."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 5.0
POLL_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: Message
    text: str


def ask(url: str) -> Answer:
    """GET the address. Raises OSError when there is no answer."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S) as answer:
            return Answer(answer.status, answer.headers, answer.read().decode(errors="replace"))
    except HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode(errors="replace"))
    except HTTPException as error:
        raise OSError(f"no HTTP: {error!r}") from error


def ask_json(url: str) -> Any:
    """GET the address and parse it. Raises OSError when there is no answer, or one that is no JSON."""
    answer = ask(url)
    try:
        return json.loads(answer.text)
    except ValueError as error:
        raise OSError(f"{url} answered {answer.status} without JSON") from error


def within(timeout_s: float, condition: Callable[[], T]) -> T:
    """The condition's first true value, or its last one when timeout_s seconds are over."""
    end = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(POLL_S)
    return value


class Prometheus:
    """Prometheus' HTTP API. Everything raises OSError when it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes."""
        found: list[dict[str, Any]] = self._data("targets", state="active")["activeTargets"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or fire."""
        found: list[dict[str, Any]] = self._data("alerts")["alerts"]
        return found

    def firing(self, name: str, severity: str) -> str:
        """The summary of the alert of that name and severity; nothing when it does not fire."""
        wanted = {"alertname": name, "severity": severity}.items()
        found = [x for x in self.alerts() if x["state"] == "firing" and wanted <= x["labels"].items()]
        return found[0]["annotations"].get("summary", name) if found else ""

    def value(self, query: str) -> float | None:
        """The highest value of the query now; None when it has none (no series, or not a number)."""
        found = [float(series["value"][1]) for series in self._data("query", query=query)["result"]]
        return max((value for value in found if value == value), default=None)  # noqa: PLR0124 (NaN)

    def exemplars(self, query: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """The exemplars of the query's series between the two times (seconds since 1970)."""
        series = self._data("query_exemplars", query=query, start=str(start_s), end=str(end_s))
        return [exemplar for one in series for exemplar in one["exemplars"]]

    def _data(self, path: str, **arguments: str) -> Any:
        answer = ask_json(f"{self.url}/api/v1/{path}?{urlencode(arguments)}")
        if answer.get("status") != "success":
            raise OSError(f"Prometheus refused {path}: {answer.get('error')}")
        return answer["data"]
