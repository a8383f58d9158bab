"""OpenTelemetry's variables mean what its specification says; what cannot be read is warned of and ignored."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, TraceIdRatioBased
from prometheus_client import CollectorRegistry

from observability import Telemetry
from observability.testing import MemoryTelemetry
from tests.unit.observability.conftest import Http, Receiver
from tests.unit.observability.rpc import channel, sync_server

NUMBERS = [
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
]
IGNORED = [
    *[(variable, text) for variable in NUMBERS for text in ("1.5", "-1", "fast", "9" * 30)],
    ("OTEL_BSP_SCHEDULE_DELAY", "9" * 5000),
    ("OTEL_BSP_SCHEDULE_DELAY", "²"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
    ("OTEL_TRACES_EXPORTER", "nonsense"),
    ("OTEL_TRACES_SAMPLER", "nonsense"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier-pigeon"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "deflate"),
    ("OTEL_SDK_DISABLED", "perhaps"),
]
EMPTY = [
    *NUMBERS,
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
]


def exported(receiver: Receiver | Http) -> list[str]:
    """The names that reach the receiver of one span that is made."""
    telemetry = Telemetry("read", registry=CollectorRegistry())
    telemetry.tracer_provider.get_tracer("test").start_span("made").end()
    telemetry.shutdown()
    return receiver.names


def answers() -> None:
    """A service with telemetry answers, and ends."""
    with Telemetry("running", registry=CollectorRegistry()) as telemetry:
        server: Any = telemetry
        with sync_server(server) as target, channel(MemoryTelemetry(), target) as calls:
            assert calls.unary_unary("/test.Service/returns")(b"x", timeout=60) == b"x"


def check_ignored(variable: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line says all of it, and there is no other."""
    (line,) = caplog.messages
    assert line.startswith(f"{variable} must be "), line
    assert repr(text) in line


@pytest.mark.parametrize(("variable", "text"), IGNORED, ids=[f"{name}={text[:20]}" for name, text in IGNORED])
def test_what_cannot_be_read_is_ignored(
    variable: str,
    text: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line names the variable, what it must be and the value, and the span is exported as without it."""
    monkeypatch.setenv(variable, text)
    assert exported(receiver) == ["made"]
    check_ignored(variable, text, caplog)


@pytest.mark.parametrize("variable", EMPTY)
def test_what_is_empty_says_nothing(
    variable: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable that is set to nothing is as one that is not set."""
    monkeypatch.setenv(variable, "")
    assert exported(receiver) == ["made"]
    assert receiver.resource["service.name"] == "read"
    assert caplog.messages == []


@pytest.mark.parametrize("text", ["abc", "", "0"])
def test_the_timeout_of_traces_over_http(
    text: str, http: Http, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is ignored, too, by the exporter that leaves its reading to us."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", text)
    assert exported(http) == ["made"]
    if text:
        check_ignored("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", text, caplog)


@pytest.mark.parametrize("sampler", ["traceidratio", "TraceIdRatio", "parentbased_traceidratio"])
@pytest.mark.parametrize("text", ["2", "-0.5", "nan", "half"])
def test_a_ratio_that_cannot_be_read_is_ignored(
    sampler: str,
    text: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then all is sampled, and one line says so."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", text)
    assert exported(receiver) == ["made"]
    check_ignored("OTEL_TRACES_SAMPLER_ARG", text, caplog)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("traceidratio", TraceIdRatioBased), ("Parentbased_TraceIdRatio", ParentBasedTraceIdRatio)],
)
@pytest.mark.parametrize(("text", "ratio"), [("0.25", 0.25), ("0", 0.0), ("", 1.0)])
def test_the_ratio_is_the_samplers(
    name: str, kind: Any, text: str, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_TRACES_SAMPLER_ARG is the sampler's ratio, and 1 where it says nothing."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", text)
    telemetry: Any = MemoryTelemetry()
    assert telemetry.tracer_provider.sampler.get_description() == kind(ratio).get_description()
    telemetry.shutdown()


def test_headers_that_cannot_be_read_are_ignored(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's exporter says so in one line, and the span is exported."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "garbage")
    assert exported(receiver) == ["made"]
    (line,) = caplog.messages
    assert "garbage" in line


def test_propagators_are_left_alone(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OTEL_PROPAGATORS is OpenTelemetry's to read: we say and do nothing about it."""
    monkeypatch.setenv("OTEL_PROPAGATORS", "carrier-pigeon")
    assert exported(receiver) == ["made"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("endpoint", "variable", "text"),
    [
        ("http://[::1", "", ""),
        ("https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE", "a folder"),
        (
            "http://127.0.0.1:1",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "abc",
        ),  # which OpenTelemetry's exporter reads
    ],
)
def test_an_exporter_that_cannot_be_made_is_one_line(
    endpoint: str,
    variable: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """What OpenTelemetry's exporter raises for is one error line, and the service runs without it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path) if text == "a folder" else text)
    answers()
    (error,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert error.message.startswith("spans are not exported by otlp: ")


def test_a_certificate_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One error line names its path, and the service runs."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    answers()
    assert len([line for line in caplog.messages if "/nowhere.pem" in line]) == 1


@pytest.mark.parametrize("text", ["none", "gzip", "GZIP"])
def test_compression(
    text: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The specification's compressions are taken without a word; capitals mean nothing."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", text)
    assert exported(receiver) == ["made"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variables", "arrives"),
    [
        ({"OTEL_EXPORTER_OTLP_INSECURE": "true"}, True),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "True"}, True),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "false", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true"}, True),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "false"}, False),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "perhaps"}, False),
        ({}, False),
    ],
)
def test_insecure_is_for_endpoints_without_a_scheme(
    variables: dict[str, str],
    arrives: bool,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only "true" sends spans without TLS to an endpoint that does not say so itself."""
    endpoint = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"].removeprefix("http://")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    if not arrives:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    for variable, text in variables.items():
        monkeypatch.setenv(variable, text)
    assert exported(receiver) == ["made"] * arrives
    assert ("must be true or false" in caplog.text) == ("perhaps" in variables.values())


def test_the_scheme_wins_over_insecure(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint of http:// is without TLS whatever the variable says."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "false")
    assert exported(receiver) == ["made"]


@pytest.mark.parametrize(
    "text",
    ["otlp", "OTLP", "console,otlp", "otlp, Console", "nonsense,otlp", "otlp,otlp", "none,otlp", " ,otlp"],
)
def test_exporters_are_a_list(
    text: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each that is named gets each span once; capitals mean nothing."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", text)
    assert exported(receiver) == ["made"]
    assert ('"name": "made"' in capsys.readouterr().out) == ("console" in text.lower())


@pytest.mark.parametrize("text", ["none", "None", "none,nonsense"])
def test_none_is_no_exporter(text: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """With none, nothing is exported."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", text)
    assert exported(receiver) == []


MODULE = """
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

names = []

class Kept(SpanExporter):
    def export(self, spans):
        names.extend(span.name for span in spans)
        return SpanExportResult.SUCCESS

    def shutdown(self):
        names.append("shut down")

class Stubborn(Kept):
    def shutdown(self):
        raise KeyError("stubborn")

class Marking(Sampler):
    def __init__(self, argument):
        self.argument = argument

    def should_sample(self, *_, **__):
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"argument": self.argument})

    def get_description(self):
        return "Marking"

def broken(*_):
    raise KeyError("broken")
"""
ENTRY_POINTS = """
[opentelemetry_traces_exporter]
kept = somebody:Kept
stubborn = somebody:Stubborn
broken = somebody:broken

[opentelemetry_traces_sampler]
Marking = somebody:Marking
broken = somebody:broken
text = builtins:str
"""


@pytest.fixture
def somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution of somebody else's, with an exporter and a sampler under OpenTelemetry's entry points."""
    folder = tmp_path / "somebody-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "somebody.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("somebody", None)


@pytest.mark.usefixtures("somebody")
def test_what_is_installed_under_an_entry_point(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Exporters and samplers of others are used by their names, beside ours, without a word."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "kept,otlp")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "Marking")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "theirs")
    assert exported(receiver) == ["made"]
    assert sys.modules["somebody"].names == ["made", "shut down"]
    assert receiver.attributes == [{"argument": "theirs"}]
    assert caplog.messages == []


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    ("variable", "text", "line"),
    [
        ("OTEL_TRACES_EXPORTER", "broken,otlp", "spans are not exported by broken: 'broken'"),
        ("OTEL_TRACES_SAMPLER", "broken", "the sampler broken cannot be made"),
        ("OTEL_TRACES_SAMPLER", "text", "the sampler text must be a Sampler, got ''"),
    ],
)
def test_what_is_installed_and_broken(
    variable: str,
    text: str,
    line: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is one error line; the other exporter, or the default sampler, does the work."""
    monkeypatch.setenv(variable, text)
    assert exported(receiver) == ["made"]
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", line)]


@pytest.mark.usefixtures("somebody")
def test_where_no_exporter_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spans are counted as lost."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "broken")
    registry = CollectorRegistry()
    telemetry = Telemetry("lost", registry=registry)
    telemetry.tracer_provider.get_tracer("test").start_span("made").end()
    telemetry.shutdown()
    assert registry.get_sample_value("telemetry_spans_dropped_total", {"reason": "export_failed"}) == 1
    assert registry.get_sample_value("telemetry_spans_exported_total") == 0


@pytest.mark.usefixtures("somebody")
def test_an_exporter_that_raises_at_its_end(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted, and the exporters after it are shut down."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "stubborn,kept")
    registry = CollectorRegistry()
    telemetry = Telemetry("ending", registry=registry)
    telemetry.tracer_provider.get_tracer("test").start_span("made").end()
    telemetry.shutdown()
    assert registry.get_sample_value("telemetry_signal_failures_total", {"signal": "export"}) == 1
    assert sys.modules["somebody"].names == ["made", "made", "shut down"]


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize("variable", ["OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER"])
def test_the_line_lists_what_is_installed(
    variable: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is unknown is answered with all that are known, those of others included."""
    monkeypatch.setenv(variable, "nonsense")
    assert exported(receiver) == ["made"]
    check_ignored(variable, "nonsense", caplog)
    assert {"OTEL_TRACES_EXPORTER": "console, kept", "OTEL_TRACES_SAMPLER": "Marking, always_off"}[
        variable
    ] in (caplog.text)


def test_the_deployment_names_the_service(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME wins over the name in the code, and OTEL_RESOURCE_ATTRIBUTES is on the spans."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "deployed")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test")
    assert exported(receiver) == ["made"]
    assert receiver.resource["service.name"] == "deployed"
    assert receiver.resource["deployment.environment.name"] == "test"


def test_the_environment_is_never_written(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither making telemetry, nor an export, nor an instrumented application changes os.environ."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "deployed")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "fast")
    before = dict(os.environ)
    telemetry = Telemetry("quiet", registry=CollectorRegistry())
    assert dict(os.environ) == before
    app = Flask("app")
    telemetry.instrument_flask(app)
    assert dict(os.environ) == before
    app.test_client().get("/nowhere")
    telemetry.shutdown()
    assert len(receiver.names) == 1
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"}, 2),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "3"}, 3),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"}, 2),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, 3),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, 128),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": ""}, 128),
    ],
)
def test_the_count_of_attributes(
    variables: dict[str, str], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of spans wins over the general one; one that cannot be read leaves the other, or the default."""
    for variable, text in variables.items():
        monkeypatch.setenv(variable, text)
    telemetry = MemoryTelemetry()
    span = telemetry.tracer_provider.get_tracer("test").start_span("made")
    span.set_attributes({str(number): "x" for number in range(200)})
    span.end()
    (made,) = telemetry.spans()
    assert len(made.attributes or {}) == kept
    telemetry.shutdown()


@pytest.mark.parametrize(
    ("text", "kept"), [("2", "xx"), ("many", "xxx"), ("", "xxx")], ids=["a limit", "no number", "empty"]
)
def test_the_length_of_attributes(text: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of spans' values falls back to the general one, in the same way."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", text)
    telemetry = MemoryTelemetry()
    telemetry.tracer_provider.get_tracer("test").start_span("made", attributes={"key": "xxxxx"}).end()
    (made,) = telemetry.spans()
    assert (made.attributes or {})["key"] == kept
    telemetry.shutdown()
