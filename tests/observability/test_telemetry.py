"""The public surface: set-up, metrics over HTTP, logs, isolation of signals."""

import contextvars
import io
import json
import logging
import shutil
import subprocess
import sys
import urllib.request
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, parser
from prometheus_client.openmetrics import parser as openmetrics

from observability import Telemetry
from observability.call import MAX_METHODS, Call, Recorder, Start
from observability.families import family
from observability.logs import ExporterFilter
from observability.testing import MemoryTelemetry, eventually
from tests.observability.rpc import channel, sync_server

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scrape(port: int, accept: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture
def scraped() -> Any:
    """A server that took calls, and its two formats of metrics."""
    telemetry = MemoryTelemetry("scraped")
    telemetry.declare("/test.Service/returns", "NOT_FOUND")
    with sync_server(telemetry) as target, channel(telemetry, target) as made:
        made.unary_unary("/test.Service/returns")(b"x")
        eventually(lambda: telemetry.value("grpc_server_handled_total", grpc_code="OK") == 1)
        port = telemetry.serve_metrics(0)
        yield telemetry, scrape(port, "text/plain"), scrape(port, OPENMETRICS)
    telemetry.shutdown()


def test_both_formats_parse_and_exemplars_lead_to_the_trace(scraped: Any) -> None:
    """Prometheus' own parsers take both formats; the exemplar of the server's histogram is the server's span."""
    telemetry, plain, rich = scraped
    assert {family.name for family in parser.text_string_to_metric_families(plain)} >= {"grpc_server_handled"}
    exemplars = {
        sample.exemplar.labels["span_id"]
        for metric in openmetrics.text_string_to_metric_families(rich)
        for sample in metric.samples
        if sample.exemplar
    }
    assert exemplars == {f"{span.context.span_id:016x}" for span in telemetry.spans()}


def test_declared_series_start_at_zero(scraped: Any) -> None:
    """A declared code has its series before it is ever seen."""
    assert (
        'grpc_server_handled_total{grpc_code="NOT_FOUND",grpc_method="returns",grpc_service="test.Service",grpc_type="unary"} 0.0'
        in scraped[1]
    )


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_accepts_the_metrics(scraped: Any) -> None:
    """promtool finds nothing to say against names and format."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped[1], text=True, capture_output=True, check=False
    )
    complaints = [
        line
        for line in done.stderr.splitlines() + done.stdout.splitlines()
        if "grpc_" in line or "telemetry_" in line
    ]
    assert complaints == []


def test_a_port_in_use_is_an_error() -> None:
    """A second server on the port raises OSError, and the first goes on."""
    telemetry = MemoryTelemetry()
    port = telemetry.serve_metrics(0)
    with pytest.raises(OSError, match="in use"):
        telemetry.serve_metrics(port)
    assert "target_info" in scrape(port, "text/plain")
    telemetry.shutdown()


def test_two_may_share_a_registry() -> None:
    """Two Telemetry objects count in one registry, each under its own name in target_info."""
    first = MemoryTelemetry("first")
    second = MemoryTelemetry("second", registry=first.registry)
    for telemetry in (first, second):
        with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
            made.unary_unary("/test.Service/returns")(b"x")
            eventually(lambda telemetry=telemetry: len(telemetry.spans()) == 1)  # type: ignore[misc]
    assert first.value("grpc_server_handled_total", grpc_code="OK") == 2
    assert first.value("target_info", service_name="second") == 1


def test_a_name_that_is_taken_is_an_error() -> None:
    """A metric of another kind under one of our names is told at once."""
    registry = CollectorRegistry()
    Counter("grpc_server_started_total", "another", registry=registry)
    with pytest.raises(ValueError, match="already registered"):
        family(Counter, "grpc_server_started_total", "ours", ("grpc_type",), registry)


class Broken:
    """A signal that fails where it is told to."""

    name = "broken"
    loud = True

    def __init__(self, at: str) -> None:
        self._at = at

    def bind(self, method: Any) -> Start:
        self._fail("bind")

        def start(call: Call) -> Any:
            self._fail("start")
            call.listen(self.name, lambda call, direction: self._fail("message"))
            return lambda call: self._fail("end")

        return start

    def _fail(self, at: str) -> None:
        if at == self._at:
            raise RuntimeError(at)


@pytest.mark.parametrize("at", ["bind", "start", "message", "end"])
def test_a_signal_that_fails_changes_nothing(at: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever a signal fails, the call goes on, the others tell of it, and the failure is counted and told once."""
    telemetry = MemoryTelemetry()
    signals = (telemetry._tracing, Broken(at), telemetry._log)
    recorder = Recorder("server", signals, telemetry.failures, lambda _: False)
    for _ in range(3):
        begin = recorder.bind("/test.Service/returns", "unary").begin
        call = contextvars.copy_context().run(begin)
        call.message("received")
        call.end("OK")
    assert len(telemetry.spans()) == len(telemetry.lines()) == 3
    assert telemetry.value("telemetry_signal_failures_total", signal="broken") == (1 if at == "bind" else 3)
    assert sum("signal broken failed" in record.message for record in caplog.records) == 1


def test_a_filter_that_fails_excludes_nothing() -> None:
    """A condition that raises is counted, and the method is traced."""
    telemetry = MemoryTelemetry(exclude=lambda _: 1 / 0)
    with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x")
        eventually(lambda: len(telemetry.spans()) == 1)
    assert telemetry.value("telemetry_signal_failures_total", signal="exclude") == 1


def test_names_of_methods_are_bounded() -> None:
    """A client that makes up method names gets `_OTHER` for them, beyond a thousand."""
    telemetry = MemoryTelemetry()
    recorder = Recorder("client", (), telemetry.failures, lambda _: False)
    names = {
        recorder.bind(f"/test.Service/{number}", "unary").method.name for number in range(MAX_METHODS + 5)
    }
    assert len(names) == MAX_METHODS + 1
    assert recorder.bind("noslash", "unary").method.service == "_OTHER"


def test_other_lines_carry_the_trace_too() -> None:
    """A line of Python's logging is JSON with the current trace's ids, and its stack if there is one."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.level
    telemetry = MemoryTelemetry()
    captured = Telemetry(
        "lines", tracer_provider=telemetry.tracer_provider, registry=CollectorRegistry(), log_stream=stream
    )
    captured.capture_logs("DEBUG")
    captured.capture_logs("INFO")
    logger = logging.getLogger("test")
    with telemetry.tracer_provider.get_tracer("test").start_as_current_span("span") as span:
        logger.warning("within %s", "a span")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("outside")
    captured.shutdown()
    root.setLevel(before)
    logger.warning("after the end")
    within, outside = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert within["event"] == "within a span"
    assert within["level"] == "warn"
    assert within["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert "trace_id" not in outside
    assert "ValueError: broken" in outside["stack"]


def test_an_exporter_complains_once_a_minute() -> None:
    """Of an exporter's complaints one a minute passes; other loggers are not held back."""
    once = ExporterFilter()
    passed = [
        once.filter(logging.makeLogRecord({"name": name}))
        for name in ("opentelemetry.exporter.otlp", "opentelemetry.exporter.otlp", "mine", "mine")
    ]
    assert passed == [True, False, True, True]


def test_importing_does_nothing() -> None:
    """An import starts no thread, registers no metric, and changes no logging."""
    code = (
        "import logging, threading, prometheus_client as p; before = set(p.REGISTRY._names_to_collectors); "
        "import observability; assert threading.active_count() == 1; "
        "assert set(p.REGISTRY._names_to_collectors) == before; assert not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
