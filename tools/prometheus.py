"""Prometheus' HTTP API."""

from typing import Any
from urllib.parse import urlencode

from tools.web import ask_json

FOREVER_S = 9_999_999_999


class Prometheus:
    """Prometheus' HTTP API. Everything raises OSError when it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def ask(self, path: str, **arguments: str) -> Any:
        """The data that the API returns for the path."""
        answer = ask_json(f"{self.url}/api/v1/{path}?{urlencode(arguments)}")
        if answer.get("status") != "success":
            raise OSError(f"Prometheus refused {path}: {answer.get('error')}")
        return answer["data"]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes."""
        found: list[dict[str, Any]] = self.ask("targets", state="active")["activeTargets"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing."""
        found: list[dict[str, Any]] = self.ask("alerts")["alerts"]
        return found

    def firing(self, name: str, severity: str) -> str:
        """The summary of the alert of that name and severity; nothing when it does not fire."""
        wanted = {"alertname": name, "severity": severity}.items()
        found = [x for x in self.alerts() if x["state"] == "firing" and wanted <= x["labels"].items()]
        return found[0]["annotations"].get("summary", name) if found else ""

    def query(self, query: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """The series that the query gives now, or gave at a time (seconds since 1970)."""
        moment = {} if at_s is None else {"time": f"{at_s:.3f}"}
        found: list[dict[str, Any]] = self.ask("query", query=query, **moment)["result"]
        return found

    def value(self, query: str) -> float | None:
        """The highest value of the query now; None when it has none (no series, or not a number)."""
        found = [float(series["value"][1]) for series in self.query(query)]
        return max((value for value in found if value == value), default=None)  # noqa: PLR0124 (NaN)

    def exemplars(self, query: str, start_s: float = 0, end_s: float = FOREVER_S) -> list[dict[str, Any]]:
        """The exemplars of the query's series between the two times (seconds since 1970)."""
        series = self.ask("query_exemplars", query=query, start=str(start_s), end=str(end_s))
        return [exemplar for one in series for exemplar in one["exemplars"]]
