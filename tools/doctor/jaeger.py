"""Jaeger's API: version 3, and the older one where a Jaeger does not have that yet.

Versions: https://www.jaegertracing.io/docs/latest/apis/
"""

from typing import Any

from tools.web import ask_json


class Jaeger:
    """A Jaeger. Everything raises OSError when it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url

    def services(self) -> set[str]:
        """The services that it has traces of."""
        answer = self._ask("services")
        return set(answer.get("services") or answer.get("data") or ())

    def services_of(self, trace_id: str) -> set[str]:
        """The services that it has spans of in the trace."""
        answer = self._ask(f"traces/{trace_id}")
        if "result" in answer:
            resources = answer["result"].get("resourceSpans", [])
            attributes = (pair for one in resources for pair in one["resource"]["attributes"])
            return {pair["value"]["stringValue"] for pair in attributes if pair["key"] == "service.name"}
        processes = (trace["processes"].values() for trace in answer.get("data") or [])
        return {process["serviceName"] for each in processes for process in each}

    def _ask(self, path: str) -> Any:
        try:
            return ask_json(f"{self.url}/api/v3/{path}")
        except OSError:  # an older Jaeger answers with its page, which is no JSON
            return ask_json(f"{self.url}/api/{path}")
