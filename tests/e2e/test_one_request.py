"""One click, through both real services: one trace, the counters and the lines of both, all with one id."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics import parser

from observability.testing import eventually
from tests.e2e.processes import PATIENT, Pair, Receiver, Service, pair

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CLIENT, SERVER = 3, 2


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Receiver]]:
    with pair(tmp_path_factory.mktemp("path"), **PATIENT) as running:
        yield running


def test_render_homepage(both: tuple[Pair, Receiver]) -> None:
    """The tutorial's integration test, but for the port."""
    homepage_html = urlopen(both[0].url).read().decode("utf-8")
    assert "<title>Online Books For You</title>" in homepage_html
    assert homepage_html.count("<li>") == 3


def lines(service: Service, trace_id: str, event: str) -> list[dict[str, Any]]:
    """The lines of that event in the trace, as soon as there is one."""

    def found() -> list[dict[str, Any]]:
        complete = service.log.read_text().rpartition("\n")[0]
        read = [json.loads(line) for line in complete.splitlines()]
        return [line for line in read if (line.get("trace_id"), line["event"]) == (trace_id, event)]

    return eventually(found)


def samples(both: Any, service: str) -> list[Any]:
    text = both.scrape(service, OPENMETRICS)
    return [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]


def value(both: Pair, service: str, name: str, **labels: str) -> Any:
    return sum(
        s.value for s in samples(both, service) if s.name == name and labels.items() <= s.labels.items()
    )


def of_trace(receiver: Receiver, trace_id: str) -> list[tuple[str, Any]]:
    return [(service, span) for service, span in receiver.spans if span.trace_id.hex() == trace_id]


@pytest.mark.parametrize(("path", "status", "http"), [("/", "OK", 200), ("/?category=42", "NOT_FOUND", 404)])
def test_one_trace(both: tuple[Pair, Receiver], path: str, status: str, http: int) -> None:
    """The receiver gets three spans with the right parents; metrics and lines of both sides say the same."""
    running, receiver = both
    sides = {"marketplace": "client", "recommendations": "server"}
    before = {
        side: value(running, service, f"grpc_{side}_handled_total", grpc_code=status)
        for service, side in sides.items()
    }
    code, page, headers = running.get(path)
    trace_id = headers["traceresponse"].split("-")[1]
    assert code == http
    assert trace_id in page
    assert "total;dur=" in headers["Server-Timing"]
    assert "recommendations;dur=" in headers["Server-Timing"]
    eventually(lambda: len(of_trace(receiver, trace_id)) == 3)
    spans = of_trace(receiver, trace_id)
    (root,) = [x for s, x in spans if s == "marketplace" and x.kind == SERVER]
    (client,) = [x for s, x in spans if s == "marketplace" and x.kind == CLIENT]
    (server,) = [x for s, x in spans if s == "recommendations" and x.kind == SERVER]
    assert (root.parent_span_id, client.parent_span_id, server.parent_span_id) == (
        b"",
        root.span_id,
        client.span_id,
    )
    for service, side, span in (("marketplace", "client", client), ("recommendations", "server", server)):
        attributes = {pair.key: pair.value.string_value for pair in span.attributes}
        assert attributes["rpc.status_code"] == status
        assert value(running, service, f"grpc_{side}_handled_total", grpc_code=status) == before[side] + 1
        exemplars = [s.exemplar.labels["span_id"] for s in samples(running, service) if s.exemplar]
        assert span.span_id.hex() in exemplars
        (line,) = lines(getattr(running, service), trace_id, f"grpc.{side}.call")
        assert (line["status"], line["span_id"]) == (status, span.span_id.hex())
    attributes = {pair.key: pair.value.int_value for pair in root.attributes}
    assert attributes["http.response.status_code"] == http
    (line,) = lines(running.marketplace, trace_id, "http.server.request")
    assert (line["http.response.status_code"], line["span_id"]) == (http, root.span_id.hex())


def test_a_visitor_is_a_stranger(both: tuple[Pair, Receiver]) -> None:
    """Whatever trace and baggage a visitor sends along, the page is a sampled trace of ours, through both services."""
    running, receiver = both
    theirs = {"traceparent": f"00-{7:032x}-{8:016x}-00", "baggage": "k=" + "v" * 4000, "tracestate": "x=1"}
    with urlopen(Request(running.url, headers=theirs)) as answer:
        trace_id = answer.headers["traceresponse"].split("-")[1]
    assert trace_id != f"{7:032x}"
    eventually(lambda: len(of_trace(receiver, trace_id)) == 3)
    spans = [span for _, span in of_trace(receiver, trace_id)]
    links = {
        span.kind: [link.trace_id.hex() for link in span.links] for span in spans if not span.parent_span_id
    }
    assert links == {SERVER: [f"{7:032x}"]}
    assert {span.trace_state for span in spans} == {""}


def test_queries_are_in_the_trace(both: tuple[Pair, Receiver]) -> None:
    """A page that asks the database has its query as a span with the stable names, without what was asked for."""
    running, receiver = both
    trace_id = running.get("/books?q=orient")[2]["traceresponse"].split("-")[1]
    spans = eventually(
        lambda: [
            x for s, x in receiver.spans if x.trace_id.hex() == trace_id and "SELECT" in str(x.attributes)
        ]
    )
    assert "orient" not in str(spans[0].attributes)
    assert [span.name for span in spans] == ["SELECT"] * len(spans)  # and not the path of the database's file
    names = {pair.key for pair in spans[0].attributes}
    assert {"db.system.name", "db.query.text", "db.operation.name"} <= names
    assert not names & {"db.system", "db.statement", "db.namespace"}


def test_resources_name_the_services(both: tuple[Pair, Receiver]) -> None:
    """Both services' targets say name, version and instance."""
    for service in ("marketplace", "recommendations"):
        assert value(both[0], service, "target_info", service_name=service, service_version="0.1.0") == 1


def test_health_is_quiet(both: tuple[Pair, Receiver], tmp_path: Path) -> None:
    """Health checks leave no span and no line."""
    running, receiver = both
    _, body, headers = running.get("/readyz")
    assert json.loads(body)["status"] == "ready"
    assert "traceresponse" not in headers
    assert running.get("/livez")[0] == 200
    kinds = {span.kind for _, span in receiver.spans if not span.parent_span_id}
    assert kinds == {SERVER}
    assert not [span for _, span in receiver.spans if "livez" in span.name or "readyz" in span.name]
