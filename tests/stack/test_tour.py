"""The tour: each command and name in it is one that there is, and its story comes true on the real services."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from observability.testing import eventually
from services.faults.catalogue import FAULTS, VARIABLES
from tests.e2e.processes import ROOT, free_ports, pair
from tests.stack import boards
from tests.stack.scraper import PROGRAM, Prometheus

TOUR = (ROOT / "docs" / "tour.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TOUR, re.DOTALL) for line in block.splitlines()]
DETAILS = "the catalogue cannot be read"
# What the tour quotes that is no name of ours, and where it comes from.
WORDS = {
    "up": "docker compose",
    "FAULTS=1": "compose.yaml and Makefile",
    "INTERNAL": "gRPC's status",
    "CIRCUIT_OPEN": "services/marketplace/recommendations/circuit.py",
    "Recommendations/Recommend": "protobufs/recommendations.proto",
    DETAILS: "the log, below",
    "fault on: errors": "the log, below",
    "var/": "make run's folder",
    "ALERT_WEBHOOK_URL": "compose.yaml",
    "View trace": "grafana/provisioning/datasources/datasources.yml",
    "View log lines": "grafana/provisioning/datasources/datasources.yml",
    "Log lines of this trace": "jaeger-ui.json",
    "Logs of this time (VictoriaLogs)": "grafana/board.py",
}


def names() -> set[str]:
    """Alerts, panels, dashboards: what one may meet on the tour."""
    groups = yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    titles = {board["title"] for board in boards.boards().values()}
    return (
        alerts | titles | {panel["title"] for board in boards.boards().values() for panel in board["panels"]}
    )


def make(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the make command as it stands, but with this Python."""
    words = [*command.split(), f'PY="{sys.executable}"', "--old-file=.venv/.installed"]
    environ = os.environ | {"COMPOSE_PROJECT_NAME": "tour-runs-no-containers"} | variables
    return subprocess.run(words, cwd=ROOT, env=environ, text=True, capture_output=True, check=False)


def test_each_name_is_there() -> None:
    """What the tour quotes is an alert, a panel, a dashboard, a command, a file, or a word that is accounted for."""
    quoted = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TOUR, flags=re.DOTALL)))
    known = names() | WORDS.keys()
    unknown = {word for word in quoted - known if not word.startswith("make ") and not (ROOT / word).exists()}
    assert unknown == set()


def test_each_command_is_there() -> None:
    """make has the targets, catalogue the faults, and compose the services that the commands name."""
    targets = set(re.findall(r"make ([a-z]+)", TOUR))
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)
    assert set(re.findall(r"NAME=([a-z-]+)", TOUR)) <= FAULTS.keys()
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for command in COMMANDS:
        assert re.match(r"(FAULTS=1 )?docker compose (up --wait|down|logs --no-log-prefix)|make ", command)
        if "logs" in command:
            assert set(command.partition(" | ")[0].split()[4:]) <= services.keys()


def test_each_link_is_there() -> None:
    """Links go to ports that compose publishes, and to dashboards that there are."""
    text = (ROOT / "compose.yaml").read_text()
    for port, path in re.findall(r"<http://localhost:(\d+)(/[^>]*)?>", TOUR):
        assert f":-{port}}}:{port}" in text
        if path.startswith("/d/"):
            assert path.removeprefix("/d/") in boards.boards()


@pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack")
def test_the_story_comes_true(tmp_path: Path) -> None:
    """Run on the pair, the make commands do what the tour says, and the log says what it quotes."""
    ports = dict(zip(VARIABLES.values(), map(str, free_ports(2)), strict=True))
    with pair(tmp_path, **ports) as (shop, receiver):
        prometheus = Prometheus(tmp_path, shop.metrics)
        variables = ports | {
            "MARKETPLACE_PORT": shop.url.rpartition(":")[2],
            "RECOMMENDATIONS_PORT": str(shop.grpc),
            "MARKETPLACE_METRICS_PORT": str(shop.metrics["marketplace"]),
            "RECOMMENDATIONS_METRICS_PORT": str(shop.metrics["recommendations"]),
            "PROMETHEUS_PORT": prometheus.url.rpartition(":")[2],
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "LOGS_DIR": str(tmp_path),
        }
        try:
            done = {}
            for command in [line for line in COMMANDS if line.startswith("make ") and "drill" not in line]:
                done[command] = make(command, **variables)
                if "errors" in command:
                    page = shop.get("/")[1]
            assert {command: one.stderr for command, one in done.items() if one.returncode} == {}
        finally:
            prometheus.close()
        assert "Recommendations are not available now" in page
        log = shop.recommendations.log
        assert '"fault on: errors ' in log.read_text()
        eventually(lambda: re.search(rf'"status": "INTERNAL".*"details": "{DETAILS}"', log.read_text()))
        eventually(lambda: "Recommendations are not available now" not in shop.get("/")[1])
        assert all(name in done["make faults"].stdout for name in FAULTS)
