"""OpenTelemetry's variables mean what its specification says; what cannot be read is warned of and ignored."""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from flask import Flask
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from prometheus_client import CollectorRegistry

from observability import Telemetry
from tests.observability.conftest import Receiver

IGNORED = [
    ("OTEL_TRACES_EXPORTER", "pigeon"),
    ("OTEL_BSP_SCHEDULE_DELAY", "1.5"),
    ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "abc"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon"),
    ("OTEL_TRACES_SAMPLER", "pigeon"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-5"),
]


def exported(receiver: Receiver, **options: Any) -> list[str]:
    """The names that reach the receiver of one span that is made."""
    telemetry = Telemetry("read", registry=CollectorRegistry(), **options)
    telemetry.tracer_provider.get_tracer("test").start_span("made").end()
    telemetry.shutdown()
    return receiver.names


@pytest.mark.parametrize(("variable", "text"), IGNORED)
def test_what_cannot_be_read_is_ignored(
    variable: str,
    text: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line names the variable and the value, and the span is exported as without it."""
    monkeypatch.setenv(variable, text)
    assert exported(receiver) == ["made"]
    assert len([line for line in caplog.messages if text in line]) == 1, caplog.messages


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "garbage"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "::::"),
    ],
)
def test_what_the_sdk_reads_is_no_reason_not_to_start(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever OpenTelemetry's own exporter and sampler make of a value, the service runs and ends."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, text)
    exported(Receiver())


@pytest.mark.parametrize("text", ["otlp", "OTLP", "console,otlp", "otlp, console", "pigeon,otlp"])
def test_exporters_are_a_list(
    text: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each that is named gets each span; capitals mean nothing."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", text)
    assert exported(receiver) == ["made"]
    assert ('"name": "made"' in capsys.readouterr().out) == ("console" in text)


def test_none_is_no_exporter(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """With none, nothing is exported."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "None")
    assert exported(receiver) == []


class Kept(SpanExporter):
    """An exporter of somebody else's."""

    spans: ClassVar[list[str]] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans.extend(span.name for span in spans)
        return SpanExportResult.SUCCESS


class Marking(Sampler):
    """A sampler of somebody else's, made of OTEL_TRACES_SAMPLER_ARG."""

    def __init__(self, argument: str) -> None:
        self._argument = argument

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"argument": self._argument})

    def get_description(self) -> str:
        return "Marking"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with both, under OpenTelemetry's entry points."""
    folder = tmp_path / "kept-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: kept\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        f"[opentelemetry_traces_exporter]\nkept = {__name__}:Kept\n"
        f"[opentelemetry_traces_sampler]\nmarking = {__name__}:Marking\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.usefixtures("installed")
def test_what_is_installed_under_an_entry_point(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporters and samplers of others are used by their names, beside ours."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "kept,otlp")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "marking")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "ours")
    Kept.spans.clear()
    assert exported(receiver) == Kept.spans == ["made"]
    assert receiver.attributes == [{"argument": "ours"}]


def test_the_deployment_names_the_service(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME wins over the name in the code, and OTEL_RESOURCE_ATTRIBUTES is on the spans."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "deployed")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    assert exported(receiver) == ["made"]
    assert receiver.resource["service.name"] == "deployed"
    assert receiver.resource["deployment.environment.name"] == "test"


def test_the_environment_is_never_written(receiver: Receiver) -> None:
    """Neither making telemetry nor instrumenting an application changes os.environ."""
    before = dict(os.environ)
    telemetry = Telemetry("quiet", registry=CollectorRegistry())
    telemetry.instrument_flask(Flask("app"))
    telemetry.shutdown()
    assert dict(os.environ) == before


def test_limits_are_the_sdks(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT holds for any span."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    telemetry = Telemetry("limited", registry=CollectorRegistry())
    span = telemetry.tracer_provider.get_tracer("test").start_span("made")
    span.set_attributes({str(number): "x" for number in range(5)})
    span.end()
    assert isinstance(span, ReadableSpan)
    assert span.dropped_attributes == 3
    assert isinstance(span.resource, Resource)
    telemetry.shutdown()
