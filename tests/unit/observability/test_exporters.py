"""Spans are delivered by the exporter that is asked for, whole batches or not, and what is lost is counted."""

import logging
import sys
import time
from typing import Any

import pytest
from opentelemetry import trace
from prometheus_client import CollectorRegistry

from observability import Telemetry
from observability.testing import MemoryTelemetry
from tests.unit.observability.conftest import Http, Receiver
from tests.unit.observability.rpc import Sync, channel, sync_server

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is exported before a flush, however slow the machine is."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")


class Handler(Sync):
    """Does to its span what the request says."""

    def returns(self, request: bytes, context: Any) -> bytes:
        span = trace.get_current_span()
        what, _, value = request.decode().partition(" ")
        if what == "size":
            span.set_attributes({"big": "x" * int(value), "size": value})
        if what == "name":
            span.update_name("\ud800")
        if what == "attribute":
            span.set_attribute("bad", "\ud800")
        return request


class Counted:
    """Telemetry with its own counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.telemetry: Any = Telemetry("exporting", registry=self.registry)
        self.tracer = self.telemetry.tracer_provider.get_tracer("test")

    def serve(self, *requests: str) -> None:
        """Answer these requests."""
        with sync_server(self.telemetry, Handler()) as target, channel(MemoryTelemetry(), target) as calls:
            for request in requests:
                assert calls.unary_unary("/test.Service/returns")(request.encode(), timeout=60)

    def lost(self) -> float:
        lost = self.registry.get_sample_value("telemetry_spans_dropped_total", {"reason": "export_failed"})
        return lost or 0

    def counts(self) -> tuple[float, float]:
        """Spans that were exported, and that were not."""
        self.telemetry.shutdown()
        return self.registry.get_sample_value("telemetry_spans_exported_total") or 0, self.lost()


def test_what_is_too_large_is_split(receiver: Receiver) -> None:
    """Spans of 9 MiB, for a receiver that takes 4 MiB at once, all arrive; one that is larger itself is lost alone."""
    made = Counted()
    made.serve(*[f"size {MIB + number}" for number in range(9)], f"size {5 * MIB}")
    assert made.counts() == (9, 1)
    assert sorted(span["size"] for span in receiver.attributes) == [str(MIB + number) for number in range(9)]
    assert receiver.requests > 2


@pytest.mark.parametrize(("rejects", "counts"), [(3, (7, 3)), (10, (0, 10)), (99, (0, 10)), (-5, (10, 0))])
def test_what_the_receiver_rejects_is_lost(rejects: int, counts: tuple[int, int], receiver: Receiver) -> None:
    """A partial success counts the rejected spans as lost, the others as exported, and never more than were sent."""
    receiver.rejects = rejects
    made = Counted()
    for number in range(10):
        made.tracer.start_span(str(number)).end()
    assert made.counts() == counts


def test_a_rejection_is_of_one_request(receiver: Receiver) -> None:
    """What a receiver has rejected once is not counted again with the next request."""
    receiver.rejects = 1
    made = Counted()
    made.serve("x", "x")
    made.telemetry.force_flush()
    receiver.rejects = 0
    made.serve("x", "x")
    assert made.counts() == (3, 1)


@pytest.mark.parametrize("protocol", ["receiver", "http"])
def test_one_that_cannot_be_encoded_is_lost_alone(
    protocol: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a hundred spans, one whose name is no UTF-8 loses no other, and one line says so."""
    receiver = request.getfixturevalue(protocol)
    made = Counted()
    made.serve(*(["x"] * 50), "name", *(["x"] * 49))
    assert made.counts() == (99, 1)
    assert receiver.names == ["test.Service/returns"] * 99
    assert caplog.messages.count("spans that cannot be exported: 1") == 1


@pytest.mark.parametrize("protocol", ["receiver", "http"])
def test_a_span_goes_without_an_attribute_that_cannot_be_encoded(
    protocol: str, request: pytest.FixtureRequest
) -> None:
    """Text that is no UTF-8 is left out of its span; the span and all others arrive."""
    receiver = request.getfixturevalue(protocol)
    made = Counted()
    made.serve(*(["x"] * 50), "attribute", *(["x"] * 49))
    assert made.counts() == (100, 0)
    assert receiver.names == ["test.Service/returns"] * 100


def test_a_request_that_cannot_be_made_is_one_line(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A header that gRPC refuses loses the batch: all is counted, and one line says so, not one a span."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-bin=text")
    made = Counted()
    made.serve(*(["x"] * 50))
    assert made.counts() == (0, 50)
    assert receiver.names == []
    assert [
        record.message for record in caplog.records if record.name == "observability.signals.exporters"
    ] == ["spans that cannot be exported: 50"]


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "300"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "300000", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "300"},
    ],
)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.usefixtures("silent")
def test_the_timeout_is_in_milliseconds(
    variables: dict[str, str], protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 gives up on a silent receiver before the default of 10 seconds; the variable for traces wins."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    for variable, text in variables.items():
        monkeypatch.setenv(variable, text)
    made = Counted()
    made.tracer.start_span("made").end()
    started = time.monotonic()
    assert not made.telemetry.force_flush(0.01)
    assert made.telemetry.force_flush(60)
    assert time.monotonic() - started < 9
    assert made.counts() == (0, 1)


@pytest.mark.parametrize("text", ["http/protobuf", "HTTP/Protobuf"])
def test_otlp_over_http(text: str, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf delivers the spans of calls over HTTP."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", text)
    made = Counted()
    made.serve("x")
    made.tracer.start_span("made").end()
    assert made.counts() == (2, 0)
    assert sorted(http.names) == ["made", "test.Service/returns"]


def test_the_protocol_of_traces_wins(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc is used though all exporters are to use HTTP."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    made = Counted()
    made.serve("x")
    assert made.counts() == (1, 0)
    assert receiver.names == ["test.Service/returns"]


def test_http_is_an_extra(
    http: Http, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked for and not installed, it is one error line that names the extra, and calls go on."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    made = Counted()
    for _ in range(2):
        made.serve("x")
        made.telemetry.force_flush()
    made.telemetry.shutdown()
    (error,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert "the extra `http`" in error.message
    assert http.names == []
