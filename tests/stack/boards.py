"""The committed dashboards as Grafana reads them: panels, queries, legends and colours."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from tests.e2e.processes import ROOT

FOLDER = ROOT / "grafana" / "dashboards"
# What Grafana puts in place of its variables, as for a dashboard that shows all of the last half minute.
VARIABLES = {
    "$service": "(marketplace|recommendations)",
    "$method": ".*",
    "$code": ".*",
    "$__rate_interval": "3s",
    "$__range": "30s",
}
# Words of PromQL that are no names of series, and what surrounds them that holds no names either.
WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
ASIDE = re.compile(
    r'"(?:[^"\\]|\\.)*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)'
)
NAME = re.compile(r"(?<![\w:$])[a-zA-Z_:][\w:]*\b(?!\s*\()")


class Query(NamedTuple):
    """A query of a panel."""

    board: str
    panel: str
    expression: str
    legend: str
    exemplars: bool

    @property
    def asked(self) -> str:
        """As Prometheus gets it."""
        return filled(self.expression)


@cache
def boards() -> dict[str, dict[str, Any]]:
    """The dashboards by their uid."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    return {board["uid"]: board for board in found}


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard, without its rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """The queries of all panels."""
    for uid, board in boards().items():
        for panel in panels(board):
            for target in panel.get("targets", []):
                yield Query(uid, panel["title"], target["expr"], target["legendFormat"], target["exemplar"])


def filled(expression: str) -> str:
    """The expression without Grafana's variables."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def names(expression: str) -> set[str]:
    """The names of the series that a PromQL expression reads."""
    return set(NAME.findall(ASIDE.sub(" ", expression))) - WORDS


def colour(panel: Mapping[str, Any], legend: str) -> str:
    """The colour that the panel's overrides give a series; none when no override is for it."""
    found = ""
    for override in panel["fieldConfig"]["overrides"]:
        if re.search(override["matcher"]["options"].strip("/").replace(r"\/", "/"), legend):
            found = override["properties"][0]["value"]["fixedColor"]
    return found


def legend(template: str, labels: Mapping[str, str]) -> str:
    """What Grafana calls a series."""
    return re.sub(r"\{\{(\w+)\}\}", lambda field: labels.get(field[1], ""), template)
