"""Log lines by OTLP: what a real receiver gets of them, over gRPC and HTTP, and what is lost when there is none."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from prometheus_client import CollectorRegistry

from observability import Telemetry, receiver
from observability.testing import MemoryTelemetry
from tests.unit.observability.rpc import channel, sync_server


class Store(logs_service_pb2_grpc.LogsServiceServicer):
    """Takes log records over gRPC and HTTP."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(self, self._grpc)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever)
        self.endpoints = {
            "grpc": f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}",
            "http/protobuf": f"http://127.0.0.1:{self._http.server_port}/insert/v1/logs",
        }
        self._grpc.start()
        self._thread.start()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_logs:
            self.resources.append(receiver.attributes(resource.resource.attributes))
            for scope in resource.scope_logs:
                self.records += scope.log_records
        return logs_service_pb2.ExportLogsServiceResponse()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/insert/v1/logs"
                store.headers.append(dict(self.headers))
                body = self.rfile.read(int(self.headers["Content-Length"]))
                store.Export(logs_service_pb2.ExportLogsServiceRequest.FromString(body), None)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

        return Handler

    def close(self) -> None:
        self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def store() -> Iterator[Store]:
    running = Store()
    yield running
    running.close()


@pytest.fixture(params=["grpc", "http/protobuf"])
def exported(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The environment has lines sent to the store by this protocol, and no spans anywhere."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", request.param)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", store.endpoints[request.param])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "vl-stream-fields=service.name")
    return store


def call(calls: Any, method: str) -> str:
    """Make a call; its status."""
    ended = calls.unary_unary(f"/test.Service/{method}").future(b"x", timeout=60)
    return str(ended.code().name)


class Made:
    """Telemetry whose lines on the stream can be read, too."""

    def __init__(self) -> None:
        self.registry, self.text = CollectorRegistry(), StringIO()
        self.telemetry: Any = Telemetry("shop", registry=self.registry, log_stream=self.text)

    def lines(self) -> list[dict[str, Any]]:
        assert self.telemetry.force_flush(30)
        return [json.loads(line) for line in self.text.getvalue().splitlines()]

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0


def test_telemetry_in_memory_sends_none(exported: Store) -> None:
    """What it keeps goes nowhere else, whatever the environment says."""
    telemetry = MemoryTelemetry()
    with sync_server(telemetry) as target, channel(telemetry, target) as calls:
        assert call(calls, "returns") == "OK"
    assert len(telemetry.lines()) == 2
    telemetry.shutdown()
    assert exported.records == []


def test_a_line_is_a_record_of_the_same_call(exported: Store) -> None:
    """Each record says what the line on the stream says; it has its ids, time and severity as the data model has them."""
    made = Made()
    with sync_server(made.telemetry) as target, channel(MemoryTelemetry(), target) as calls:
        assert call(calls, "returns") == "OK"
        call(calls, "raises")
    lines = made.lines()
    assert len(lines) == len(exported.records) == 2
    for line, record in zip(lines, exported.records, strict=True):
        assert record.trace_id.hex() == line["trace_id"]
        assert record.span_id.hex() == line["span_id"]
        assert record.flags & 1  # sampled
        assert record.event_name == line["event"] == "grpc.server.call"
        assert record.body.string_value == f"{line['rpc.method']} {line['status']}"
        assert record.severity_text == line["level"]
        fields = receiver.attributes(record.attributes)
        said = {"time", "level", "service", "event", "trace_id", "span_id"}
        assert fields == {key: value for key, value in line.items() if key not in said}
    assert [record.severity_number for record in exported.records] == [
        SeverityNumber.SEVERITY_NUMBER_INFO,
        SeverityNumber.SEVERITY_NUMBER_ERROR,
    ]
    assert {resource["service.name"] for resource in exported.resources} == {"shop"}
    assert made.value("telemetry_log_records_exported_total") == 2
    assert all(headers["vl-stream-fields"] == "service.name" for headers in exported.headers)
    made.telemetry.shutdown()


def test_lines_of_logging_go_too(exported: Store) -> None:
    """Whatever `extra` holds, the record arrives: values that OTLP has none for as text, and none loses another."""
    made = Made()
    made.telemetry.capture_logs()
    log = logging.getLogger("test.lines")
    odd = {
        "number": 2**70,
        "list": [1, "two"],
        "nothing": None,
        "object": object,
        "half": "\ud800",
        "share": 0.5,
    }
    log.warning("odd %s", "values", extra=odd)
    log.error("after it")
    made.lines()
    first, second = exported.records[-2:]
    assert (first.body.string_value, second.body.string_value) == ("odd values", "after it")
    assert first.severity_number == SeverityNumber.SEVERITY_NUMBER_WARN
    assert first.trace_id == b""
    fields = receiver.attributes(first.attributes)
    assert fields["logger"] == "test.lines"
    assert fields["number"] == str(2**70)
    assert fields["list"] == '[1, "two"]'
    assert fields["nothing"] == "null"
    assert fields["half"] == "\\ud800"
    assert fields["share"] == 0.5
    made.telemetry.shutdown()


def test_a_line_that_is_too_long_is_cut(exported: Store) -> None:
    """Its record is as short as the line on the stream."""
    made = Made()
    made.telemetry.capture_logs()
    logging.getLogger("test.lines").warning("x" * 200_000, extra={"more": "y" * 200_000})
    made.lines()
    assert len(exported.records[-1].body.string_value) == 8 * 1024
    assert receiver.attributes(exported.records[-1].attributes) == {"truncated": True}
    made.telemetry.shutdown()


def test_lines_are_not_sent_by_default(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OTEL_LOGS_EXPORTER, with none, and with a disabled SDK, lines go to the stream alone."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", store.endpoints["grpc"])
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    for variables in (
        {},
        {"OTEL_LOGS_EXPORTER": "none"},
        {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
    ):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        made = Made()
        with sync_server(made.telemetry) as target, channel(MemoryTelemetry(), target) as calls:
            call(calls, "returns")
        assert len(made.lines()) == 1
        made.telemetry.shutdown()
    assert store.records == []


def test_lines_that_are_lost_are_counted(monkeypatch: pytest.MonkeyPatch, silent: None) -> None:
    """With a store that never answers, calls go on and the stream has all lines; the lost ones are counted by reason."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "0")
    made, count = Made(), 200
    with sync_server(made.telemetry) as target, channel(MemoryTelemetry(), target) as calls:
        assert {call(calls, "returns") for _ in range(count)} == {"OK"}
    made.telemetry.shutdown(10)
    lines = [line for line in made.text.getvalue().splitlines() if "grpc.server.call" in line]
    assert len(lines) == count
    lost = {
        reason: made.value("telemetry_log_records_dropped_total", reason=reason)
        for reason in ("queue_full", "export_failed", "shutdown")
    }
    assert lost["queue_full"] > 0
    assert lost["export_failed"] > 0
    assert sum(lost.values()) == count
    assert made.value("telemetry_log_records_exported_total") == 0


def test_an_exporter_that_is_unknown_is_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported in one line that says what there is."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "loki")
    Made().telemetry.shutdown()
    assert "OTEL_LOGS_EXPORTER must be a list of none, otlp, got 'loki'; it is ignored" in caplog.text
