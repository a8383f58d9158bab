"""A real Jaeger by the repository's own jaeger.yaml: how it starts, what its tab Monitor has, and `make why` about it."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from observability.testing import eventually
from services.faults.catalogue import FAULTS, VARIABLES
from tests.e2e.processes import PATIENT, ROOT, Pair, free_ports, get, pair
from tests.e2e.test_why import CALL, EXPECTED
from tests.stack import scraper
from tests.stack.jaegers import Jaeger, needs_jaeger
from tools.traces.why import NOTHING
from tools.web import ask_json

pytestmark = [
    needs_jaeger,
    pytest.mark.skipif(scraper.PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack"),
]
PAGES = 30  # more than what is needed to say what is usual


class Stack(NamedTuple):
    """The pair, with a Jaeger that has its traces and a Prometheus that scrapes both."""

    pair: Pair
    jaeger: Jaeger
    variables: dict[str, str]

    def tool(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        environ = os.environ | self.variables
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    def why(self, spans: int) -> str:
        """What `make why` says of a page, when so many of its spans are in Jaeger."""
        trace_id = self.pair.get("/")[2]["traceresponse"].split("-")[1]
        eventually(lambda: len(self.jaeger.spans(trace_id)) >= spans, 30)
        done = self.tool("tools.why", trace_id)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("jaeger")
    (directory / "prometheus").mkdir()
    jaeger = Jaeger(directory)
    faults, traces, logs = free_ports(2), *map(str, free_ports(2))
    ports = dict(zip(VARIABLES.values(), map(str, faults), strict=True))
    with ExitStack() as running:
        both, _ = running.enter_context(
            pair(directory, **ports, **PATIENT, OTEL_EXPORTER_OTLP_ENDPOINT=jaeger.otlp)
        )
        scraped = both.metrics | {"jaeger": jaeger.ports["8889"]}
        prometheus = scraper.Prometheus(directory / "prometheus", scraped)
        running.callback(prometheus.close)
        jaeger.start(prometheus.url)
        running.callback(jaeger.close)
        for _ in range(PAGES):
            both.get("/")
        eventually(lambda: prometheus.query("traces_span_metrics_calls_total"), 60)
        addresses = {
            "JAEGER_UI_PORT": jaeger.ports["16686"],
            "PROMETHEUS_PORT": prometheus.url.rpartition(":")[2],
            "TRACES_PORT": traces,
            "LOGS_PORT": logs,
        }
        yield Stack(both, jaeger, ports | {name: str(port) for name, port in addresses.items()})


def test_it_starts_without_a_complaint(stack: Stack) -> None:
    """Its log has no warning: nothing in jaeger.yaml is deprecated or ignored."""
    assert "Everything is ready" in stack.jaeger.log
    assert re.findall(r"^.*\t(?:warn|error)\t.*$", stack.jaeger.log, re.MULTILINE) == []


def test_its_own_traces_are_not_in_the_list(stack: Stack) -> None:
    """However much it is asked, its services are the pair."""
    for _ in range(20):
        stack.jaeger.services()
    stack.why(3)  # what came before it is there, too
    assert stack.jaeger.services() == {"marketplace", "recommendations"}


@pytest.mark.parametrize("service", ["marketplace", "recommendations"])
@pytest.mark.parametrize("metric", ["calls", "errors", "latencies"])
def test_the_tab_monitor_has_each_service(stack: Stack, service: str, metric: str) -> None:
    """What its page asks for is there: rate, errors and p95 of each service."""
    arguments = "spanKind=server&lookback=600000&step=1000&ratePer=60000&quantile=0.95"
    url = f"{stack.jaeger.url}/api/metrics/{metric}?service={service}&{arguments}"

    def values() -> list[float]:
        stack.pair.get("/")
        found = [point for one in ask_json(url)["metrics"] for point in one["metricPoints"]]
        return [float(point["gaugeValue"]["doubleValue"]) for point in found]

    # No page fails here, so the rate of errors is there, and 0.
    eventually(lambda: any(value > 0 or metric == "errors" for value in values()), 60)


@pytest.mark.parametrize("name", EXPECTED)
def test_why_names_the_span_that_the_fault_is_in(stack: Stack, name: str) -> None:
    """The same words as of a trace of `make run`, with what is usual beside them, and with the alert's runbook."""
    spans, service, _, words = EXPECTED[name]
    takes_time = ["5000"] if name in {"slow", "page-slow"} else []
    assert stack.tool("tools.faults", "on", name, "1", *takes_time).returncode == 0
    try:
        found = eventually(lambda: text if words in (text := stack.why(spans)) else "", 120)
    finally:
        stack.tool("tools.faults", "heal")
    sentence = str(found).partition("\n")[0]
    assert service in sentence
    assert "; usually " in str(found)
    assert f"alert {FAULTS[name].alert}, docs/runbooks/{FAULTS[name].alert}.md" in str(found)


def test_why_of_a_page_that_was_held(stack: Stack) -> None:
    """A page whose thread was stuck spent the time in itself."""
    stack.tool("tools.faults", "on", "stuck", "1")
    healing = threading.Timer(3, stack.tool, ["tools.faults", "heal"])
    healing.start()
    found = stack.why(3)
    healing.join()
    assert "ms were spent in marketplace, in GET / itself." in found


def test_why_of_a_leak(stack: Stack) -> None:
    """It names nobody when no single call shows what is wrong."""
    stack.tool("tools.faults", "on", "leak", "1")
    try:
        eventually(lambda: stack.why(3).startswith(NOTHING), 120)
    finally:
        stack.tool("tools.faults", "heal")


def test_why_of_an_unknown_trace(stack: Stack) -> None:
    """A trace that nobody has is one line, that names both places."""
    for trace_id in ("0" * 31 + "1", "../services"):
        done = stack.tool("tools.why", trace_id)
        assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")
        assert stack.variables["TRACES_PORT"] in done.stderr
        assert stack.jaeger.url in done.stderr


def test_why_of_a_crash(stack: Stack) -> None:
    """The call that got no answer is named, and that no trace says why. It is the last test: the service is gone."""
    stack.tool("tools.faults", "on", "crash")
    eventually(lambda: "not available now" in stack.pair.get("/")[1], 30)
    found = stack.why(2)
    assert re.match(rf"marketplace got no answer from localhost:\d+ to {CALL}: UNAVAILABLE", found)
    assert "no trace says" in found
    assert get(stack.pair.url)[0] == 200
