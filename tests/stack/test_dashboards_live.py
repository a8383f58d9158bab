"""Every query of the dashboards, asked of a real Prometheus that scrapes the real services under load."""

import itertools
import re
import resource
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from observability.testing import eventually
from tests.e2e.processes import ROOT, Pair, Receiver, pair
from tests.stack import boards
from tests.stack.boards import Query
from tests.stack.scraper import PROGRAM, Prometheus

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack")

# One page in twenty is for a category that does not exist: under the threshold of NotFoundSurge.
PATHS = ["/?category=42", "/", "/books", "/books?q=orient", "/books/1", "/livez", *["/", "/books/2"] * 7]
PATIENCE_S = 30
# Empty while all is well; test_under_their_fault_panels_show_it has them all.
EMPTY = {
    ("bookshop", "Pages without recommendations"),
    ("bookshop", "Alerts"),
    ("telemetry", "Failures by signal"),
    ("bookshop", "Refused at the front door"),
    ("telemetry", "Records dropped"),
    ("telemetry", "Log lines dropped"),
    ("telemetry", "Log lines lost on the way to the store"),
    # The parts of the stack are none of the services that the test scrapes.
    ("telemetry", "Parts that answer"),
    ("telemetry", "Memory of the parts"),
    ("telemetry", "Taken by the stores"),
}
# What the parts of the stack expose, as their documentation has it.
PARTS = {"prometheus_tsdb_head_samples_appended_total", "vl_rows_ingested_total", "load_entry_up"}
BOTH = {"marketplace", "recommendations"}
CALLS = {"service": BOTH, "method": {"Recommend"}, "code": {"OK", "NOT_FOUND"}}
CHOICES = {"bookshop": CALLS, "grpc": CALLS, "telemetry": {"service": BOTH}}  # at least
STREAMS = "for services with streams; the bookshop's only ones are gRPC's health checks"
UNUSED = {  # name of a metric of ours that no dashboard shows: why
    "grpc_client_first_message_seconds": STREAMS,
    "grpc_server_first_message_seconds": STREAMS,
}
OURS = re.compile(r"(grpc|http_server|telemetry|marketplace|target)_\w+")


class Shop:
    """The pair, its Prometheus, and a reader who does not stop."""

    def __init__(self, both: Pair, receiver: Receiver, prometheus: Prometheus) -> None:
        self.both, self.receiver, self.prometheus = both, receiver, prometheus
        self._left = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for path in itertools.cycle(PATHS):
            self.both.get(path)
            if self._left.wait(0.02):
                return

    def series(self, query: Query) -> list[dict[str, Any]]:
        """What the query gives, once it gives something that is a number."""
        return eventually(
            lambda: [one for one in self.prometheus.query(query.asked) if one["value"][1] != "NaN"],
            PATIENCE_S,
        )

    def shows(self, board: str, panel: str, **labels: str) -> None:
        """Waits until a series of the panel with these labels is above zero."""
        (query,) = [query for query in boards.queries() if (query.board, query.panel) == (board, panel)]
        eventually(
            lambda: [
                one
                for one in self.prometheus.query(query.asked)
                if labels.items() <= one["metric"].items() and float(one["value"][1]) > 0
            ],
            PATIENCE_S,
        )

    def close(self) -> None:
        self._left.set()
        self._reader.join()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp("dashboards")
    with pair(directory, OTEL_EXPORTER_OTLP_TIMEOUT="1000") as (both, receiver):
        prometheus = Prometheus(directory, both.metrics)
        running = Shop(both, receiver, prometheus)
        try:
            yield running
        finally:
            running.close()
            prometheus.close()


def _when_well() -> list[Query]:
    return [query for query in boards.queries() if (query.board, query.panel) not in EMPTY]


def _id(query: Query) -> str:
    return f"{query.board}: {query.panel} {query.legend}"


@pytest.mark.parametrize("query", _when_well(), ids=_id)
def test_a_query_returns_data(shop: Shop, query: Query) -> None:
    """While people read, the query of the panel returns data, and each of its lines has a chosen colour."""
    series = shop.series(query)
    (panel,) = [one for one in boards.panels(boards.boards()[query.board]) if one["title"] == query.panel]
    if panel["type"] == "timeseries":
        shown = {boards.legend(query.legend, one["metric"]) for one in series}
        assert {name for name in shown if not boards.colour(panel, name)} == set()


@pytest.mark.parametrize("uid", sorted(boards.boards()))
def test_variables_have_values(shop: Shop, uid: str) -> None:
    """Each variable of a dashboard offers what there is to choose: both services, the method, its statuses."""

    def offered() -> dict[str, set[str]]:
        found = {}
        for variable in boards.boards()[uid]["templating"]["list"]:
            selector, label = re.fullmatch(
                r"label_values\((.+), (\w+)\)", variable["query"]["query"]
            ).groups()  # type: ignore[union-attr]
            found[variable["name"]] = set(shop.prometheus.values(label, boards.filled(selector)))
        return found

    # Not before both services have been scraped, and somebody has requested a category that does not exist.
    eventually(lambda: all(choices <= offered()[name] for name, choices in CHOICES[uid].items()), PATIENCE_S)
    assert offered().keys() == CHOICES[uid].keys()
    assert offered()["service"] == BOTH


def test_exemplars_lead_to_traces(shop: Shop) -> None:
    """Each exemplar that a panel shows is of a trace that the receiver got."""
    seen = set()
    for query in {query.asked for query in boards.queries() if query.exemplars}:
        found = eventually(partial(shop.prometheus.exemplars, query), PATIENCE_S)
        seen |= {exemplar["labels"]["trace_id"] for exemplar in found}
    assert len(seen) > 10
    eventually(lambda: seen <= {span.trace_id.hex() for _, span in shop.receiver.spans})


@pytest.mark.parametrize(
    ("attribute", "value"), [("rpc.method", "Recommendations/Recommend"), ("http.route", "/")]
)
def test_spans_lead_to_metrics(shop: Shop, attribute: str, value: str) -> None:
    """The queries that Jaeger's spans link to return the metrics of that call, or of that page."""
    text = (ROOT / "grafana/provisioning/datasources/datasources.yml").read_text()
    (jaeger,) = [one for one in yaml.safe_load(text)["datasources"] if one["uid"] == "jaeger"]
    links = jaeger["jsonData"]["tracesToMetrics"]
    tags = next(tags for tags in map(_tags, shop.receiver.spans) if tags.get(attribute) == value)
    labels = [f'{tag["value"]}="{tags[tag["key"]]}"' for tag in links["tags"] if tag["key"] in tags]
    assert len(labels) >= 1
    for link in links["queries"]:
        # Grafana's configuration writes a dollar twice; a second of the test is 20 of earnest.
        asked = link["query"].replace("$$__tags", ", ".join(labels)).replace("[1m]", "[3s]")
        assert eventually(partial(shop.prometheus.query, asked), PATIENCE_S), link["name"]


def _tags(span: tuple[str, Any]) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in span[1].attributes}


def test_every_metric_of_ours_is_on_a_dashboard(shop: Shop) -> None:
    """What the services measure is shown somewhere, directly or through a recorded rule."""
    text = "".join(shop.both.scrape(service) for service in shop.both.metrics)
    exposed = {name for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE) if OURS.fullmatch(name)}
    shown = set().union(*(boards.names(query.expression) for query in boards.queries()))
    recorded = _rules("record")
    while more := set().union(*(boards.names(recorded[name]) for name in shown & recorded.keys())) - shown:
        shown |= more
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    unused = {name for name in exposed if not name.endswith("_created")} - families
    assert unused <= UNUSED.keys()


def test_under_their_fault_panels_show_it(shop: Shop) -> None:
    """What is empty or zero while all is well is not, one fault after the other: log, traces, recommendations."""
    limit = shop.both.recommendations.log.stat().st_size
    resource.prlimit(shop.both.recommendations.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    shop.shows("telemetry", "Failures by signal", signal="logs", job="recommendations")
    shop.shows("telemetry", "Log lines dropped", reason="write_failed", job="recommendations")
    shop.receiver.close()
    shop.shows("telemetry", "Spans dropped", reason="export_failed", job="marketplace")
    shop.shows("telemetry", "Share of spans dropped", reason="export_failed", job="marketplace")
    shop.both.recommendations.stop()
    shop.shows("bookshop", "Pages without recommendations", reason="UNAVAILABLE")
    shop.shows("bookshop", "Without recommendations")
    shop.shows("bookshop", "Calls by gRPC status", grpc_code="UNAVAILABLE")
    shop.shows("bookshop", "Alerts", alertname="ServiceDown", alertstate="firing", job="recommendations")
    shop.shows("bookshop", "Alerts that fire")


def test_every_metric_that_is_named_is_exposed(shop: Shop) -> None:
    """Each name in a panel, an alert or a recorded rule is one that Prometheus has seen, or recorded."""
    named = set().union(*(boards.names(query.expression) for query in boards.queries()))
    for kind in ("record", "alert"):
        named = named.union(*(boards.names(expression) for expression in _rules(kind).values()))
    seen = shop.prometheus.names() | PARTS
    assert named <= seen, named - seen


def _rules(kind: str) -> dict[str, str]:
    groups = yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"]
    return {rule[kind]: rule["expr"] for group in groups for rule in group["rules"] if kind in rule}
