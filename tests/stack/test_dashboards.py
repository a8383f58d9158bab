"""The dashboards and data sources as they are committed."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.colours import PALETTE
from tests.e2e.processes import ROOT
from tests.stack.boards import boards, panels, queries

BOARDS = ("bookshop", "grpc", "telemetry")
# The minimum widths, in columns of 51 px each at 1280 px, at which a panel of the kind can be read.
MIN_WIDTHS = {"stat": 4, "timeseries": 8, "heatmap": 12, "table": 12, "text": 12}
ALL_PANELS = [(uid, panel) for uid in boards() for panel in panels(boards()[uid])]
IDS = [f"{uid}: {panel['title']}" for uid, panel in ALL_PANELS]
each_panel = pytest.mark.parametrize(("uid", "panel"), ALL_PANELS, ids=IDS)


def test_the_files_are_what_the_code_says() -> None:
    """Dashboards and alerts are those of the code."""
    subprocess.run([sys.executable, "-m", "grafana", "--check"], cwd=ROOT, check=True)
    assert set(boards()) == set(BOARDS)


@pytest.mark.parametrize("name", ["alerts.yml", "grafana/dashboards/grpc.json"])
def test_a_file_that_was_changed_by_hand_is_found(name: str, tmp_path: Path) -> None:
    """The check names it, and the command that writes it again."""
    for folder in ("grafana", "alerts.yml"):
        copy = shutil.copytree if (ROOT / folder).is_dir() else shutil.copy
        copy(ROOT / folder, tmp_path / folder)
    with (tmp_path / name).open("a") as file:
        file.write("\n")
    command = [sys.executable, "-m", "grafana", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"{Path(name).name}: not what the code in grafana/ says; run `make dashboards`"
    )


@pytest.mark.parametrize("uid", BOARDS)
def test_grafanas_types_know_all_of_it(uid: str) -> None:
    """Read into Grafana's own types and written again, nothing is lost: no field is misspelt or misplaced."""
    plugins.register_default_plugins()
    read = Dashboard.from_json(boards()[uid])
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == boards()[uid]


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_have_their_places(uid: str) -> None:
    """Panels have unique numbers and titles, lie within the 24 columns and do not overlap."""
    parts = boards()[uid]["panels"]
    assert len({part["id"] for part in parts}) == len({part["title"] for part in parts}) == len(parts)
    cells: set[tuple[int, int]] = set()
    for part in parts:
        at = part["gridPos"]
        assert at["x"] + at["w"] <= 24
        covered = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not covered & cells, part["title"]
        cells |= covered


@each_panel
def test_a_panel_explains_itself(uid: str, panel: dict[str, Any]) -> None:
    """Each panel says what it shows, where to go from there, in which unit, from which data source, and can be read."""
    assert len(panel["description"]) > 8
    assert panel["gridPos"]["w"] >= MIN_WIDTHS[panel["type"]]
    if panel["type"] != "text":
        assert re.search(r"docs/runbooks/|◆|`|\*[A-Za-z ]+\*", panel["description"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert sources == [{"type": "prometheus", "uid": "prometheus"}] * len(sources)


@each_panel
def test_colours_are_for_all_eyes(uid: str, panel: dict[str, Any]) -> None:
    """Every colour that is chosen is one of the palette that colour-blind people can distinguish."""
    assert set(re.findall("#[0-9A-Fa-f]{6}", json.dumps(panel))) <= PALETTE
    assert "palette-classic" not in json.dumps(panel)


def test_latency_leads_to_traces() -> None:
    """The heatmap of the home dashboard, and the durations of both sides of calls, ask for exemplars."""
    asking = {(query.board, query.panel) for query in queries() if query.exemplars}
    assert {("bookshop", "How long pages take"), ("bookshop", "p99 by HTTP status")} <= asking
    assert {("grpc", "Client: p50, p95, p99"), ("grpc", "Server: p50, p95, p99")} <= asking


def test_runbooks_are_there() -> None:
    """Each runbook that a dashboard names is a page of this repository and of an alert of alerts.yml."""
    rules = yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in rules for rule in group["rules"] if "alert" in rule}
    named = set(re.findall(r"docs/runbooks/(\w+)\.md", json.dumps(boards())))
    assert named == alerts
    assert all((ROOT / "docs" / "runbooks" / f"{name}.md").exists() for name in named)


def test_alerts_lead_to_dashboards() -> None:
    """The dashboard link of each alert is to a dashboard that is there, with variables that it has."""
    links = re.findall(r"localhost:3000/d/(\w+)\?([^\s\"]*)", (ROOT / "alerts.yml").read_text())
    assert links
    for uid, query in links:
        variables = {variable["name"] for variable in boards()[uid]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", query)) <= variables


def test_data_sources_lead_to_each_other() -> None:
    """Exemplars open their trace in Jaeger, and spans their metrics in Prometheus, by uids that never change."""
    text = (ROOT / "grafana/provisioning/datasources/datasources.yml").read_text()
    sources = {source["uid"]: source for source in yaml.safe_load(text)["datasources"]}
    assert {uid: source["url"] for uid, source in sources.items()} == {
        "prometheus": "http://prometheus:9090",
        "jaeger": "http://jaeger:16686",
    }
    destinations = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert {destination["name"] for destination in destinations} == {"trace_id"}
    # Visitors have no Explore, to which a data source leads: the first destinations are addresses.
    assert [("url" in one, one.get("datasourceUid")) for one in destinations] == [
        (True, None),
        (True, None),
        (False, "jaeger"),
    ]
    assert destinations[0]["url"] == "http://localhost:$JAEGER_UI_PORT/trace/$${__value.raw}"
    assert sources["jaeger"]["jsonData"]["tracesToMetrics"]["datasourceUid"] == "prometheus"
    scrape = yaml.safe_load((ROOT / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert sources["prometheus"]["jsonData"]["timeInterval"] == scrape


def test_grafana_finds_the_dashboards() -> None:
    """The folder that Grafana reads dashboards from, and the home page, are where compose.yaml puts them."""
    providers = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/dashboards.yml").read_text())[
        "providers"
    ]
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
    (folder,) = [provider["options"]["path"] for provider in providers]
    program, script, source, target, _ = service["entrypoint"]
    assert (program, script, target) == ("/bin/sh", "/etc/links.sh", folder)
    assert f"./grafana/dashboards:{source}:ro" in service["volumes"]
    assert service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/bookshop.json"
