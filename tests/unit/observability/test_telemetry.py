"""The public surface: set-up, metrics over HTTP, logs, isolation of signals."""

import asyncio
import io
import json
import logging
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, parser
from prometheus_client.openmetrics import parser as openmetrics

from observability import DeadlineInterceptor, ExtraLabel, Telemetry
from observability.call import Call
from observability.grpc.recorder import MAX_METHODS
from observability.signals.families import Families
from observability.signals.logs import ExporterFilter
from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import channel, sync_server

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


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool; with it on PATH, run this again"
)
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
    """Another metric under one of our names is an error at once, whoever was first."""
    families = Families.of(CollectorRegistry())
    families.family(Counter, "grpc_server_started_total", "ours", ("grpc_type",))
    with pytest.raises(ValueError, match=r"grpc_server_started_total must be a Counter with the labels"):
        families.family(Gauge, "grpc_server_started_total", "another", ("grpc_type",))


def test_a_filter_that_fails_excludes_nothing() -> None:
    """A condition that raises is counted, and the method is traced."""
    telemetry = MemoryTelemetry(exclude=lambda _: 1 / 0)
    with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x")
        eventually(lambda: len(telemetry.spans()) == 1)
    assert telemetry.value("telemetry_signal_failures_total", signal="exclude") == 1


def test_names_of_methods_are_bounded() -> None:
    """A client that makes up method names gets `_OTHER` for them, beyond a thousand."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    with sync_server(server) as target, channel(client, target) as made:
        calls = [
            made.unary_unary(f"/test.Service/{number}").future(b"x", timeout=60)
            for number in range(MAX_METHODS + 5)
        ]
        assert {call.code().name for call in calls} == {"UNIMPLEMENTED"}
    for side, telemetry, known in (("client", client, MAX_METHODS), ("server", server, 0)):
        handled = f"grpc_{side}_handled_total"
        other = telemetry.metric(handled, grpc_method="_OTHER", grpc_code="UNIMPLEMENTED")
        assert other == MAX_METHODS + 5 - known
        assert telemetry.value(handled) == MAX_METHODS + 5


def test_a_level_that_there_is_not_changes_nothing() -> None:
    """A wrong level is refused before the root logger is touched."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    with pytest.raises(ValueError, match=r"level must be one of .*INFO.*, got 'LOUD'"):
        MemoryTelemetry().capture_logs("LOUD")
    assert (root.level, root.handlers[:]) == before


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
    """Of an exporter's complaints one a minute passes; what it says besides, and other loggers, are not held back."""
    once = ExporterFilter()
    exporter = "opentelemetry.exporter.otlp"
    passed = [
        once.filter(logging.makeLogRecord({"name": name, "levelno": level}))
        for name, level in (
            (exporter, logging.INFO), (exporter, logging.ERROR), (exporter, logging.ERROR), (exporter, logging.INFO),
            ("mine", logging.ERROR), ("mine", logging.ERROR),
        )
    ]  # fmt: skip
    assert passed == [True, True, False, True, True, True]


def test_importing_does_nothing() -> None:
    """An import starts no thread, registers no metric, and changes no logging."""
    code = (
        "import logging, threading, prometheus_client as p; before = set(p.REGISTRY._names_to_collectors); "
        "import observability; assert threading.active_count() == 1; "
        "assert set(p.REGISTRY._names_to_collectors) == before; assert not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _raises(call: Call) -> str:
    raise KeyError(call.peer)


@pytest.mark.parametrize("of", [_raises, lambda _: None, lambda _: ["paid"]])
def test_a_label_that_cannot_be_found(of: Any) -> None:
    """A custom label's function that raises, or returns no text, costs the call nothing but the label's value."""
    server = MemoryTelemetry(extra_labels={"tier": ExtraLabel(frozenset({"paid"}), of)})
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x", timeout=60)
    assert server.value("grpc_server_handled_total", tier="_OTHER", grpc_code="OK") == 1
    assert server.value("grpc_server_in_flight") == 0


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: Telemetry(""), "service must be the service's name, got ''"),
        (lambda: Telemetry("x", exclude=cast("Any", "Health")), "exclude must be a condition of opentelemetry's filters, got 'Health'"),
        (lambda: Telemetry("x", metadata_attributes="x-tenant"), "metadata_attributes must be a list of at most 24 keys of metadata, got 'x-tenant'"),
        (lambda: Telemetry("x", extra_labels=cast("Any", ["tier"])), "extra_labels must be an ExtraLabel for each name, got ['tier']"),
        (lambda: Telemetry("x", extra_labels=cast("Any", {"tier": {"free"}})), "extra_labels must be an ExtraLabel for each name, got {'tier': {'free'}}"),
        (lambda: ExtraLabel(cast("Any", "free"), str), "values must be a set of texts, got 'free'"),
        (lambda: ExtraLabel(frozenset({"free"}), cast("Any", "free")), "of must be a function, got 'free'"),
        (lambda: Telemetry("x", metadata_attributes=[f"x-{n}" for n in range(25)]), "at most 24 keys of metadata, got ['x-0'"),
        (lambda: Telemetry("x", redact=cast("Any", "all")), "redact must be a function, got 'all'"),
        (lambda: Telemetry("x", http_buckets=(0,0)), "http_buckets must be upper bounds in seconds, each above the last, got (0, 0)"),
        (lambda: Telemetry("x", buckets=(2, 1)), "buckets must be upper bounds in seconds, each above the last, got (2, 1)"),
        (lambda: MemoryTelemetry().declare("Echo"), "path must be /package.Service/Method, got 'Echo'"),
        (lambda: MemoryTelemetry().declare("/a/b", "NOTFOUND"), "got 'NOTFOUND'"),
        (lambda: MemoryTelemetry().declare("/a/b", side="http"), "side must be one of server, client, got 'http'"),
        (lambda: MemoryTelemetry().declare("/a/b", kind="stream"), "kind must be one of unary, client_stream, server_stream, bidi_stream, got 'stream'"),
        (lambda: MemoryTelemetry().server_interceptors(workers=-1), "workers must be a number of threads, at least 0, got -1"),
        (lambda: MemoryTelemetry().server_interceptors(workers=True), "workers must be a number of threads, at least 0, got True"),
        (lambda: DeadlineInterceptor(cast("Any", "5")), "timeout_s must be a number of seconds, at least 0, got '5'"),
        (lambda: MemoryTelemetry().aio_client_interceptors(timeout_s=cast("Any", "")), "timeout_s must be a number of seconds, at least 0, got ''"),
        (lambda: MemoryTelemetry().shutdown(timeout_s=cast("Any", "5")), "timeout_s must be a number of seconds, at least 0, got '5'"),
        (lambda: MemoryTelemetry().force_flush(timeout_s=-1), "timeout_s must be a number of seconds, at least 0, got -1"),
        (lambda: MemoryTelemetry().client_interceptors(timeout_s=cast("Any", "1")), "timeout_s must be a number of seconds"),
    ],
)  # fmt: skip
def test_wrong_use_is_an_error_at_once(use: Callable[[], Any], said: str) -> None:
    """It names the argument, what it must be, and what it got."""
    with pytest.raises(ValueError, match=re.escape(said)):
        use()


def test_interceptors_that_are_passed_twice(caplog: pytest.LogCaptureFixture) -> None:
    """Each call is recorded once, and one line says what is wrong."""
    server = MemoryTelemetry()
    twice = MemoryTelemetry()
    twice.server_interceptors = lambda *_: server.server_interceptors() + server.server_interceptors()  # type: ignore[method-assign,assignment]
    with sync_server(twice) as target, channel(MemoryTelemetry(), target) as made:
        for _ in range(2):
            made.unary_unary("/test.Service/returns")(b"x", timeout=60)
    assert server.value("grpc_server_handled_total") == len(server.spans()) == len(server.lines()) == 2
    assert [line for line in caplog.messages if "twice" in line] == [
        "the interceptors of one Telemetry must be passed once, got them twice"
    ]


class Tagging(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Somebody else's interceptor: it hands on what it was given."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details, request)


def test_client_interceptors_that_are_passed_twice(caplog: pytest.LogCaptureFixture) -> None:
    """Each call is recorded once, on a channel that is intercepted twice, too; two Telemetry record twice."""
    client, other = MemoryTelemetry(), MemoryTelemetry()
    with sync_server(MemoryTelemetry()) as target, grpc.insecure_channel(target) as bare:
        twice = [*client.client_interceptors(), Tagging(), *client.client_interceptors(timeout_s=60)]
        channels: list[Any] = [
            grpc.intercept_channel(bare, *twice),
            grpc.intercept_channel(grpc.intercept_channel(bare, *other.client_interceptors()), *twice),
        ]
        for made in channels:
            assert made.unary_unary("/test.Service/returns")(b"x", timeout=60)
            assert list(made.stream_stream("/test.Service/count")(iter([b"x"]), timeout=60))
    assert client.value("grpc_client_started_total") == len(client.spans()) == len(client.lines()) == 4
    assert other.value("grpc_client_handled_total") == 2
    assert caplog.messages.count("the interceptors of one Telemetry must be passed once, got them twice") == 1


class Asking(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Somebody else's interceptor: for each call it makes another one on the same channel, with its metadata."""

    channel: Any = None

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        if client_call_details.method == "/test.Service/returns":
            other = self.channel.unary_unary("/test.Service/sets")
            assert other.future(b"", metadata=client_call_details.metadata, timeout=60).code().name != "OK"
        return continuation(client_call_details, request)


def test_a_call_that_hands_on_the_metadata_of_another(caplog: pytest.LogCaptureFixture) -> None:
    """It is another call, and recorded as one."""
    client, asking = MemoryTelemetry(), Asking()
    with sync_server(MemoryTelemetry()) as target, grpc.insecure_channel(target) as bare:
        made: Any = grpc.intercept_channel(bare, *client.client_interceptors(), asking)
        asking.channel = made
        assert made.unary_unary("/test.Service/returns")(b"x", timeout=60)
    assert client.value("grpc_client_handled_total") == len(client.spans()) == 2
    assert not [line for line in caplog.messages if "twice" in line]


def test_aio_client_interceptors_that_are_passed_twice(caplog: pytest.LogCaptureFixture) -> None:
    """On an asyncio channel, too."""
    client = MemoryTelemetry()

    async def calls(target: str) -> None:
        twice = [*client.aio_client_interceptors(), *client.aio_client_interceptors()]
        made: Any = grpc.aio.insecure_channel(target, interceptors=twice)
        async with made:
            assert await made.unary_unary("/test.Service/returns")(b"x", timeout=60)
            assert [one async for one in made.stream_stream("/test.Service/count")(iter([b"x"]), timeout=60)]

    with sync_server(MemoryTelemetry()) as target:
        asyncio.run(calls(target))
    assert client.value("grpc_client_started_total") == len(client.spans()) == len(client.lines()) == 2
    assert any("got them twice" in line for line in caplog.messages)


def test_a_context_manager_flushes_at_its_end() -> None:
    """What was recorded within it has been written when it is left."""
    text = io.StringIO()
    with Telemetry("x", registry=CollectorRegistry(), log_stream=text) as telemetry:
        telemetry.capture_logs()
        logging.getLogger("mine").info("hello")
    assert json.loads(text.getvalue())["event"] == "hello"


def test_asyncio_interceptors_on_a_threaded_server(caplog: pytest.LogCaptureFixture) -> None:
    """Calls go on, nothing is recorded, and one line says what is wrong; gRPC itself refuses the reverse."""
    wrong: Any = MemoryTelemetry()
    wrong.server_interceptors = wrong.aio_server_interceptors
    with sync_server(wrong) as target, channel(MemoryTelemetry(), target) as made:
        for _ in range(2):
            assert made.unary_unary("/test.Service/returns")(b"x", timeout=60) == b"x"
    assert wrong.lines() == []
    assert [line for line in caplog.messages if "aio_server_interceptors()" in line] == [
        "aio_server_interceptors() must go to grpc.aio.server, got grpc.server: nothing is recorded"
    ]

    async def reverse() -> None:
        with pytest.raises(ValueError, match="ServerInterceptor"):
            grpc.aio.server(interceptors=cast("Any", MemoryTelemetry().server_interceptors()))

    asyncio.run(reverse())
