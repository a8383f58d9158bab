"""Telemetry joins what a service has already: other libraries of metrics and logging, and global providers."""

import io
import json
import logging
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from loguru import logger as loguru
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser

from observability import Telemetry
from observability.testing import MemoryTelemetry


@pytest.fixture
def telemetry() -> Iterator[MemoryTelemetry]:
    """It has captured Python's logging."""
    with MemoryTelemetry() as made:
        made.capture_logs()
        yield made


def infos(registry: CollectorRegistry) -> list[dict[str, str]]:
    """The labels of each target_info in the registry, as OpenMetrics' own parser reads what is served."""
    with Telemetry("shop", registry=registry, log_stream=io.StringIO()) as telemetry:
        url = f"http://127.0.0.1:{telemetry.serve_metrics(0)}/metrics"
        request = urllib.request.Request(
            url, headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            families = list(parser.text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    return [sample.labels for sample in samples if sample.name == "target_info"]


def test_opentelemetrys_prometheus_reader() -> None:
    """In one registry with it there is one target_info: ours, as the reader's own is off."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, disable_target_info=True)
    provider = MeterProvider([reader])
    provider.get_meter("shop").create_counter("sold").add(1)
    assert [labels["service_name"] for labels in infos(registry)] == ["shop"]
    provider.shutdown()


@pytest.mark.parametrize("way", ["render_to_log_kwargs", "ProcessorFormatter.wrap_for_formatter"])
def test_structlog(telemetry: MemoryTelemetry, way: str) -> None:
    """Keywords are fields of the line, and nothing of structlog's own is; by both ways to Python's logging."""
    processor: Any = structlog.stdlib
    for part in way.split("."):
        processor = getattr(processor, part)
    structlog.configure(
        [processor],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logger = structlog.get_logger("shop").bind(book=7)
    logger.info("sold", buyer="ada")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed")
    sold, failed = telemetry.lines()
    own = {"time", "level", "service", "event", "logger"}
    assert {key: value for key, value in sold.items() if key not in own} == {"book": 7, "buyer": "ada"}
    assert (sold["event"], failed["event"], failed["level"]) == ("sold", "failed", "error")
    assert failed.keys() - own == {"book", "stack"}


def test_loguru(telemetry: MemoryTelemetry) -> None:
    """By the sink that the documentation shows, bound values are fields of the line."""
    text = (Path(__file__).parents[3] / "docs/observability.md").read_text()
    (sink,) = re.findall(r"^```python\n([^`]*def to_logging.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(sink, {})
    loguru.bind(book=7).info("sold {} of {book}", 3, book=8)
    try:
        raise ValueError("broken")
    except ValueError:
        loguru.exception("failed")
    loguru.remove()
    sold, failed = telemetry.lines()
    assert (sold["event"], sold["book"], sold["level"]) == ("sold 3 of 8", 8, "info")
    assert failed["event"] == "failed"
    assert "ValueError: broken" in failed["stack"]


def test_a_root_handler_that_is_there() -> None:
    """A handler on the terminal is silent until shutdown, others go on; then the root is as it was."""
    root = logging.getLogger()
    terminal, file = io.StringIO(), io.StringIO()
    on_terminal, on_file = logging.StreamHandler(terminal), logging.StreamHandler(file)
    root.addHandler(on_terminal)
    root.addHandler(on_file)
    level = root.level
    try:
        root.setLevel("ERROR")
        before = set(root.handlers)
        telemetry = Telemetry("shop", registry=CollectorRegistry(), log_stream=terminal)
        telemetry.capture_logs()
        telemetry.capture_logs("DEBUG")
        logging.getLogger("shop").debug("within")
        telemetry.shutdown()
        assert root.level == logging.ERROR
        assert set(root.handlers) == before
        logging.getLogger("shop").error("after")
    finally:
        root.removeHandler(on_terminal)
        root.removeHandler(on_file)
        root.setLevel(level)
    within, after = terminal.getvalue().splitlines()
    assert json.loads(within)["event"] == "within"
    assert after == "after"
    assert file.getvalue() == "within\nafter\n"


def test_a_line_is_on_the_terminal_once() -> None:
    """After logging.basicConfig, which writes to standard error, each line is there once, as JSON."""
    code = (
        "import logging; from observability import Telemetry; logging.basicConfig(level='WARNING')\n"
        "with Telemetry('shop') as telemetry:\n"
        "    telemetry.capture_logs(); logging.info('within')\n"
        "logging.info('not shown'); logging.warning('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["within"]
    assert done.stderr == "WARNING:root:after\n"


def test_a_logger_that_does_not_propagate(telemetry: MemoryTelemetry) -> None:
    """Its lines come once it propagates again."""
    logger = logging.getLogger("shop.apart")
    logger.propagate = False
    logger.warning("apart")
    logger.propagate = True
    logger.warning("joined")
    assert [line["event"] for line in telemetry.lines()] == ["joined"]


GLOBALS = """
import logging
from concurrent.futures import ThreadPoolExecutor
import grpc
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from flask import Flask
from observability import Telemetry

spans = InMemorySpanExporter()
tracers, meters, loggers = TracerProvider(), MeterProvider([reader := InMemoryMetricReader()]), LoggerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(meters)
set_logger_provider(loggers)
app = Flask("shop")
app.add_url_rule("/", view_func=lambda: trace.get_tracer("mine").start_span("mine").end() or "hello")
with Telemetry("shop", tracer_provider=trace.get_tracer_provider()) as telemetry:
    telemetry.capture_logs()
    telemetry.instrument_flask(app)
    app.test_client().get("/").close()
mine, request = spans.get_finished_spans()
assert mine.parent.span_id == request.context.span_id
assert trace.get_tracer_provider() is tracers
assert metrics.get_meter_provider() is meters and reader.get_metrics_data() is None
assert get_logger_provider() is loggers
with trace.get_tracer("mine").start_as_current_span("after"):
    pass
assert len(spans.get_finished_spans()) == 3, "shut down"
"""


def test_global_providers_that_are_there() -> None:
    """They stay; the tracer provider makes the spans when it is given, and stays open after shutdown."""
    subprocess.run([sys.executable, "-c", GLOBALS], check=True)


def test_global_providers_are_not_set() -> None:
    """Without global providers there are none afterwards."""
    before = trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()
    with MemoryTelemetry() as telemetry:
        telemetry.capture_logs()
        assert (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()) == before
