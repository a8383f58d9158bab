"""The drills: each fault, on real services under load, is seen by its alert and panel, found in its trace, and healed."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from observability.testing import eventually
from services.faults.admin import CRASH_CODE
from services.faults.catalogue import FAULTS, VARIABLES, Fault
from tests.e2e.processes import PATIENT, ROOT, Pair, Receiver, free_ports, get, pair
from tests.stack import boards
from tests.stack.scraper import PROGRAM, Prometheus
from tests.stack.timelapse import lasting

FACTOR = 30
AT_ONCE = 3
PATIENCE_S = 150
PEOPLE = 6
PATHS = ["/", "/books/1", "/books", "/", "/books/2", "/?category=2"]
SERVER, CLIENT = 2, 3

needs_prometheus = pytest.mark.skipif(
    PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack"
)


class Story(NamedTuple):
    """What a drill said, step by step, and what the services left behind."""

    code: int
    said: dict[str, str]
    errors: str
    spans: list[tuple[str, Any]]
    lines: list[dict[str, Any]]

    @property
    def trace_id(self) -> str:
        return re.search(r"/trace/(\w{32})", self.said["trace"])[1]  # type: ignore[index]

    def span(self, service: str, kind: int) -> Any:
        mine = [span for name, span in self.spans if (name, span.kind) == (service, kind)]
        (found,) = [span for span in mine if "SELECT" not in span.name]
        return found


class People:
    """Some who open a page after another, and do not mind how it goes."""

    def __init__(self, shop: Pair) -> None:
        self._shop, self._left = shop, threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(first,)) for first in range(PEOPLE)]
        for thread in self._threads:
            thread.start()

    def _read(self, first: int) -> None:
        for path in itertools.islice(itertools.cycle(PATHS), first, None):
            self._shop.get(path)
            if self._left.wait(0.2):
                return

    def close(self) -> None:
        self._left.set()
        for thread in self._threads:
            thread.join()


def play(fault: Fault, directory: Path) -> Story:
    """The drill of one fault, on its own services."""
    ports = dict(zip(VARIABLES.values(), map(str, free_ports(2)), strict=True))
    with ExitStack() as running:
        shop, receiver = running.enter_context(pair(directory, MARKETPLACE_THREADS="4", **ports))
        prometheus = Prometheus(directory, shop.metrics, FACTOR)
        running.callback(prometheus.close)
        running.callback(People(shop).close)
        eventually(lambda: prometheus.query("job:http_server_pages:rate1m > 0"), 60)
        drill = running.enter_context(_drill(fault, directory, ports, prometheus))
        if fault.name == "crash":
            _start_again(shop)
        code = drill.wait(2 * PATIENCE_S)
        return _story(code, directory, shop, receiver)


def _drill(
    fault: Fault, directory: Path, ports: dict[str, str], prometheus: Prometheus
) -> subprocess.Popen[bytes]:
    settings = {
        "PROMETHEUS_PORT": prometheus.url.rpartition(":")[2],
        "COMPOSE_PROJECT_NAME": "drills-run-no-containers",
    }
    command = [sys.executable, "-m", "tools.drill", fault.name, "--patience", str(PATIENCE_S)]
    command += ["--interval", lasting("1m", FACTOR)]
    with (directory / "said").open("wb") as said, (directory / "complained").open("wb") as complained:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | ports | settings, stdout=said, stderr=complained
        )


def _start_again(shop: Pair) -> None:
    """What compose does."""
    assert shop.recommendations.process.wait(PATIENCE_S) == CRASH_CODE
    shop.recommendations = shop.start("recommendations")


def _story(code: int, directory: Path, shop: Pair, receiver: Receiver) -> Story:
    text = (directory / "said").read_text()
    said = dict(line.split(maxsplit=1) for line in text.splitlines())
    logs = [directory / f"{service}.log" for service in VARIABLES]
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    found = re.search(r"/trace/(\w{32})", text)
    unanswered = (line["trace_id"] for line in lines if line.get("status") == "UNAVAILABLE")
    trace_id = found[1] if found else next(unanswered, "")
    spans = [(name, span) for name, span in receiver.spans if span.trace_id.hex() == trace_id]
    kept = [line for line in lines if line.get("trace_id") == trace_id]
    return Story(code, said, (directory / "complained").read_text(), spans, kept)


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Story]]]:
    """All drills, some at a time: most of a drill is waiting."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(play, fault, tmp_path_factory.mktemp(name)) for name, fault in FAULTS.items()
        }


@pytest.fixture
def story(playing: dict[str, Future[Story]], request: pytest.FixtureRequest) -> Story:
    return playing[request.param].result()


@needs_prometheus
@pytest.mark.parametrize("story", FAULTS, indirect=True)
def test_its_alert_fires_and_clears(story: Story) -> None:
    """While the fault is on its alert fires and its panel rises; healed, the alert is silent again."""
    assert (story.code, story.errors) == (0, ""), story.said
    assert not story.said["alert"].endswith("does not fire")
    assert story.said["clear"].endswith("is silent again")


@needs_prometheus
@pytest.mark.parametrize("story", [name for name in FAULTS if FAULTS[name].exemplars], indirect=True)
def test_an_exemplar_leads_to_its_lines(story: Story) -> None:
    """An exemplar of the time when the fault was on is of a trace that was delivered, and that the log names."""
    assert story.spans
    assert story.lines


def milliseconds(span: Any) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def says(span: Any, status: str) -> bool:
    return status in str([x.value for x in span.attributes if x.key == "rpc.status_code"])


@needs_prometheus
@pytest.mark.parametrize(
    ("story", "code"), [("errors", "INTERNAL"), ("not-found", "NOT_FOUND")], indirect=["story"]
)
def test_the_culprit_says_the_code(story: Story, code: str) -> None:
    """Recommendations' own span and line carry the code."""
    assert says(story.span("recommendations", SERVER), code)
    assert any((line["service"], line.get("status")) == ("recommendations", code) for line in story.lines)


@needs_prometheus
@pytest.mark.parametrize("story", ["slow"], indirect=True)
def test_the_culprit_takes_the_time(story: Story) -> None:
    """Recommendations' own span and line last as long as the fault makes them."""
    assert milliseconds(story.span("recommendations", SERVER)) >= 400
    assert any(x["service"] == "recommendations" and x.get("duration_ms", 0) >= 400 for x in story.lines)


@needs_prometheus
@pytest.mark.parametrize(("story", "least_ms"), [("page-slow", 400), ("stuck", 1000)], indirect=["story"])
def test_the_page_takes_the_time(story: Story, least_ms: float) -> None:
    """The page's span and line take the time, and no call below does."""
    assert milliseconds(story.span("marketplace", SERVER)) >= least_ms
    assert all(milliseconds(x) < least_ms / 2 for service, x in story.spans if service == "recommendations")
    assert any(line.get("duration_ms", 0) >= least_ms for line in story.lines)


@needs_prometheus
@pytest.mark.parametrize("story", ["page-errors"], indirect=True)
def test_the_page_is_the_error(story: Story) -> None:
    """The page's span is an error without a call below it, and its line has the stack."""
    assert story.span("marketplace", SERVER).status.code == 2
    assert len(story.spans) == 1
    assert any("stack" in line for line in story.lines)


@needs_prometheus
@pytest.mark.parametrize("story", ["crash"], indirect=True)
def test_nobody_answered(story: Story) -> None:
    """The shop's call is UNAVAILABLE, and recommendations has no span of it."""
    assert says(story.span("marketplace", CLIENT), "UNAVAILABLE")
    assert {service for service, _ in story.spans} == {"marketplace"}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_the_catalogue_names_what_there_is(fault: Fault) -> None:
    """Each fault's alert, with that severity, and its panel exist, and the alert has its runbook."""
    groups = yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"]
    alerts = {
        (x["alert"], x["labels"]["severity"]) for group in groups for x in group["rules"] if "alert" in x
    }
    assert (fault.alert, fault.severity) in alerts
    assert fault.panel in {panel["title"] for panel in boards.panels(boards.boards()[fault.board])}
    assert (ROOT / "docs" / "runbooks" / f"{fault.alert}.md").is_file()


@needs_prometheus
def test_a_drill_that_is_stopped_heals(tmp_path: Path) -> None:
    """Ctrl-C in the middle leaves no fault behind."""
    ports = dict(zip(VARIABLES.values(), map(str, free_ports(2)), strict=True))
    with ExitStack() as running:
        shop, _ = running.enter_context(pair(tmp_path, **ports, **PATIENT))
        prometheus = Prometheus(tmp_path, shop.metrics, FACTOR)
        running.callback(prometheus.close)
        drill = running.enter_context(_drill(FAULTS["errors"], tmp_path, ports, prometheus))
        eventually(lambda: "\nwait" in (tmp_path / "said").read_text(), 60)
        drill.send_signal(signal.SIGINT)
        assert drill.wait(30) == 130
        assert shop.get("/")[1].count("<li>") == 3


def test_without_prometheus_it_is_a_line() -> None:
    """A drill that cannot see anything switches nothing on."""
    (port,) = free_ports(1)
    assert get(f"http://127.0.0.1:{port}/")[0] == 0
    done = subprocess.run(
        [sys.executable, "-m", "tools.drill", "slow"],
        cwd=ROOT,
        env=os.environ | {"PROMETHEUS_PORT": str(port)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stdout == ""
