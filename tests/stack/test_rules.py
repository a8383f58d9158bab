"""The rules of alerts.yml: Prometheus accepts them, and each alert has what the person it calls needs."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.testing import eventually
from services.faults.catalogue import FAULTS
from tests.e2e.processes import ROOT, pair
from tests.stack import boards
from tests.stack.scraper import PROGRAM, Prometheus

CASES = sorted((ROOT / "tests" / "stack" / "rules").glob("*.yml"))
RULES = [
    rule for group in yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = [rule for rule in RULES if "alert" in rule]
IDS = [f"{rule['alert']}-{rule['labels']['severity']}" for rule in ALERTS]
LOAD = {"load_entry_up"}  # test_compose.py has what load says
SIGNALS = "telemetry_signal_failures_total"  # has a series once a signal has failed
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=IDS)


def promtool(*words: str | Path) -> None:
    """Run promtool, which must find no fault."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool; with it on PATH: make test-stack")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_its_configuration() -> None:
    """promtool finds no fault in prometheus.yml and in the rules that it names, nor any that its linter knows."""
    promtool("check", "config", "--lint=all", "--lint-fatal", ROOT / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", ROOT / "alerts.yml")


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_alerts_fire_and_clear(case: Path) -> None:
    """Each alert fires under its fault with the words that people read, clears after, and else is silent."""
    promtool("test", "rules", case)


@each_alert
def test_an_alert_leads_on(alert: dict[str, Any]) -> None:
    """An alert says how urgent it is, what is wrong in one sentence with its value, and where to read on."""
    notes = alert["annotations"]
    assert alert["labels"]["severity"] in {"page", "ticket", "none"}
    assert "{{ $value" in notes["summary"]
    assert notes["summary"].endswith(".")
    assert ". " not in notes["summary"]
    assert notes["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    assert (ROOT / notes["runbook_url"]).is_file()
    assert notes["logs_url"].startswith("http://localhost:9428/select/vmui/#/?query=service.name")
    dashboard = re.match(r"http://localhost:3000/d/(\w+)\?var-service=", notes["dashboard_url"])
    assert dashboard
    assert dashboard[1] in boards.boards()


@each_alert
def test_an_alert_is_tested_both_ways(alert: dict[str, Any]) -> None:
    """There is a test in which it is silent, fires and is silent again, and a test in which it never fires."""
    if alert["labels"]["severity"] == "none":
        assert alert["expr"] == "vector(1)"  # it always fires
        return
    courses = list(_courses(alert["alert"], alert["labels"]["severity"]))
    assert any("quiet, FIRES, quiet" in ", ".join(course) for course in courses)
    assert any(set(course) == {"quiet"} for course in courses)


def _courses(name: str, severity: str) -> Iterator[list[str]]:
    """What is expected of the alert in the course of each test that asks for it; repetitions are left out."""
    for case in CASES:
        for test in yaml.safe_load(case.read_text())["tests"]:
            course: list[str] = []
            for asked in test["alert_rule_test"]:
                if asked["alertname"] == name:
                    severities = [alert["exp_labels"]["severity"] for alert in asked["exp_alerts"]]
                    state = "FIRES" if severity in severities else "quiet"
                    course += [] if course[-1:] == [state] else [state]
            if course:
                yield course


def test_runbooks_are_of_alerts() -> None:
    """Every runbook is of an alert, is a page long, and says what one sees and does."""
    pages = {page.stem: page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages.keys() == {alert["alert"] for alert in ALERTS}
    for name, text in pages.items():
        assert len(text.splitlines()) < 40, name
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert headings == [name, "First look", "Likely causes", "Confirm", "Do", "Drill"]


def _queries_of_runbooks() -> list[str]:
    pages = (page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md"))
    blocks = (block for page in pages for block in re.findall(r"^```promql\n(.+?)^```$", page, re.M | re.S))
    return [line for block in blocks for line in block.splitlines()]


def test_runbooks_name_what_there_is() -> None:
    """The panels, faults and targets of make that runbooks name are there."""
    text = "".join(page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md"))
    titles = {
        f"{board['title']}: {panel['title']}"
        for board in boards.boards().values()
        for panel in boards.panels(board)
    }
    assert set(re.findall(r"`((?:Bookshop|gRPC|Telemetry): [^`]+)`", text)) <= titles
    assert set(re.findall(r"make drill NAME=([\w-]+)", text)) == FAULTS.keys()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_each_recorded_series_is_read() -> None:
    """By a dashboard, an alert or a runbook, or by a rule that is read itself."""
    texts = [rule["expr"] for rule in ALERTS]
    texts += [*(query.asked for query in boards.queries()), *_queries_of_runbooks()]
    read: set[str] = set()
    while found := {name for text in texts for name in boards.names(text)} & RECORDED.keys() - read:
        read |= found
        texts = [RECORDED[name] for name in found]
    assert read == RECORDED.keys()


def test_rules_read_what_the_services_expose(tmp_path: Path) -> None:
    """Each name in a rule is a metric of one of the running services, or is recorded, or is Prometheus' own."""
    read = set().union(*(boards.names(rule["expr"]) for rule in RULES))
    with pair(tmp_path) as (both, _):
        text = "".join(both.scrape(service) for service in both.metrics)
    exposed = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    families = {re.sub(r"_(bucket|count)$", "", name) for name in read - RECORDED.keys() - {"up"}}
    assert families <= exposed | LOAD


@pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack")
def test_rules_hold_on_the_real_services(tmp_path: Path) -> None:
    """While people read, every recorded rule has a value, no alert fires or is about to, and runbooks' queries work."""
    with pair(tmp_path) as (both, _):
        prometheus = Prometheus(tmp_path, both.metrics)
        try:
            expected = RECORDED.keys()

            def all_recorded() -> bool:
                both.get("/")
                return expected <= prometheus.names()

            eventually(all_recorded, 60)
            # A machine that is busy with other tests serves slow pages, and 2 minutes of earnest are 6 s.
            alerts = 'ALERTS{alertname!~"Watchdog|PagesLatencyBurn"}'

            def quiet() -> bool:
                both.get("/")
                return prometheus.query(alerts) == []

            # ServiceDown may have fired before the first scrape, and stays for a while.
            eventually(quiet, 60)
            for query in _queries_of_runbooks():
                prometheus.query(query)
                assert boards.names(query) <= prometheus.names() | {SIGNALS}, query
        finally:
            prometheus.close()
