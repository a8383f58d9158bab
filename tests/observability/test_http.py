"""The Flask edge: one span, one measurement and one line a request, with the route and never the path."""

from typing import Any

import pytest
from flask import Flask

from observability.testing import MemoryTelemetry


@pytest.fixture
def edge() -> tuple[MemoryTelemetry, Any]:
    """An application with a page that works, one that breaks, and a quiet one; and its client."""
    telemetry = MemoryTelemetry("web")
    app = Flask(__name__)
    telemetry.instrument_flask(app)
    app.add_url_rule("/books/<int:book_id>", "book", lambda book_id: f"book {book_id}")
    app.add_url_rule("/broken", "broken", lambda: str(1 / 0))
    app.add_url_rule("/livez", "livez", lambda: "ok")
    return telemetry, app.test_client()


def test_a_request_is_one_span_one_measurement_one_line(edge: Any) -> None:
    """Span, histogram and line name the route; the answer carries the trace's id."""
    telemetry, client = edge
    answer = client.get("/books/7")
    (span,), (line,) = telemetry.spans(), telemetry.lines()
    assert span.attributes["http.route"] == line["http.route"] == "/books/<int:book_id>"
    assert span.attributes["http.response.status_code"] == line["http.response.status_code"] == 200
    assert (
        answer.headers["traceresponse"].split("-")[1] == line["trace_id"] == f"{span.context.trace_id:032x}"
    )
    labels = {"http_route": "/books/<int:book_id>", "http_response_status_code": "200"}
    assert telemetry.value("http_server_request_duration_seconds_count", **labels) == 1
    assert telemetry.value("http_server_active_requests") == 0


def test_a_page_that_breaks(edge: Any) -> None:
    """An uncaught exception is 500 in all three."""
    telemetry, client = edge
    assert client.get("/broken").status_code == 500
    (span,) = telemetry.spans()
    assert span.attributes["http.response.status_code"] == 500
    assert [line["level"] for line in telemetry.lines()] == ["error"]
    assert telemetry.value("http_server_request_duration_seconds_count", http_response_status_code="500") == 1


def test_unknown_paths_and_methods_are_bounded(edge: Any) -> None:
    """A path that no route has, and a method that HTTP does not have, are `_OTHER`."""
    telemetry, client = edge
    client.open("/secret/path", method="BREW")
    labels = {"http_route": "_OTHER", "http_request_method": "_OTHER"}
    assert telemetry.value("http_server_request_duration_seconds_count", **labels) == 1


def test_health_is_quiet(edge: Any) -> None:
    """A health check is counted, but neither traced nor logged."""
    telemetry, client = edge
    client.get("/livez?x=1")
    client.get("/static/none.css")
    assert telemetry.spans() == ()
    assert telemetry.lines() == []
    assert telemetry.value("http_server_request_duration_seconds_count", http_route="/livez") == 1


def test_a_query_does_not_make_a_page_quiet(edge: Any) -> None:
    """Only the path says what is quiet."""
    telemetry, client = edge
    client.get("/books/7?next=/livez")
    assert len(telemetry.spans()) == len(telemetry.lines()) == 1


def test_a_failure_of_the_edge_is_counted(edge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When telling of a request fails, the page is answered all the same."""
    telemetry, client = edge
    monkeypatch.setattr("observability.http.exemplar", lambda *_: 1 / 0)
    assert client.get("/books/7").status_code == 200
    assert telemetry.value("telemetry_signal_failures_total", signal="http") == 1
