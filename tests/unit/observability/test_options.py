"""Options: the bounds of histograms, hooks, sizes of messages, redaction."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from observability import Telemetry
from observability.call import Call
from observability.testing import MemoryTelemetry
from observability.watched import MAX_SIZES
from tests.unit.observability.rpc import aio_server, channel, sync_server

UNARY, COUNT = "/test.Service/returns", "/test.Service/count"
Seen = list[tuple[str, str, bytes]]


class Watching:
    """Hooks that keep what they see, mark the span, and then raise if they are to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: Seen = []
        self._error = error

    def request(self, call: Call, message: Any) -> None:
        self._see("request", call, message)

    def response(self, call: Call, message: Any) -> None:
        self._see("response", call, message)

    def _see(self, what: str, call: Call, message: Any) -> None:
        self.seen.append((call.method.side, what, message))
        assert call.span is not None
        call.span.set_attribute(f"test.{what}.size", len(message))
        if self._error is not None:
            raise self._error


def watched(error: Exception | None = None, **options: Any) -> tuple[MemoryTelemetry, Watching]:
    watching = Watching(error)
    hooks: Any = {"request_hook": watching.request, "response_hook": watching.response}
    return MemoryTelemetry(**hooks, **options), watching


def by_threads(telemetry: MemoryTelemetry, messages: list[bytes]) -> None:
    """Make one unary call, by each way to make one, and one of two streams, on a threaded server."""
    with sync_server(telemetry) as target, channel(telemetry, target) as made:
        assert made.unary_unary(UNARY)(b"one", timeout=60) == b"one"
        assert made.unary_unary(UNARY).future(b"one", timeout=60).result() == b"one"
        assert list(made.stream_stream(COUNT)(iter(messages), timeout=60)) == messages


def by_asyncio(telemetry: MemoryTelemetry, messages: list[bytes]) -> None:
    """The same on an asyncio server."""

    async def run() -> None:
        async with aio_server(telemetry) as target:
            interceptors = telemetry.aio_client_interceptors(target=target)
            async with grpc.aio.insecure_channel(target, interceptors=interceptors) as opened:
                made: Any = opened
                for _ in range(2):
                    assert await made.unary_unary(UNARY)(b"one", timeout=60) == b"one"
                call = made.stream_stream(COUNT)(iter(messages), timeout=60)
                assert [response async for response in call] == messages

    asyncio.run(run())


WAYS = pytest.mark.parametrize("run", [by_threads, by_asyncio])
Run = Callable[[MemoryTelemetry, list[bytes]], None]


@WAYS
def test_hooks_see_each_message(run: Run) -> None:
    """Each request and response, on both sides, each once; what they set is on the span."""
    telemetry, watching = watched()
    run(telemetry, [b"two", b"three"])
    spans = telemetry.spans()
    messages = (b"one", b"one", b"two", b"three")
    sides = ("client", "server")
    expected = [(side, what, it) for side in sides for what in ("request", "response") for it in messages]
    assert sorted(watching.seen) == sorted(expected)
    sizes = [
        (span.attributes or {}).get(f"test.{what}.size") for what in ("request", "response") for span in spans
    ]
    assert sorted(cast("list[int]", sizes)) == [3] * 8 + [5] * 4


@WAYS
def test_what_a_hook_raises_changes_nothing(run: Run) -> None:
    """Calls go on, all signals have them as OK, and each failure is counted."""
    telemetry, watching = watched(ValueError("broken"))
    run(telemetry, [b"two", b"three"])
    assert {line["status"] for line in telemetry.lines()} == {"OK"}
    assert len(telemetry.spans()) == 6
    assert telemetry.value("grpc_server_handled_total", grpc_code="OK") == 3
    assert telemetry.value("telemetry_signal_failures_total", signal="hook") == len(watching.seen) == 16


def test_hooks_see_no_call_that_is_not_traced() -> None:
    """A call that is excluded is counted only."""
    telemetry, watching = watched(exclude=lambda _: True)
    by_threads(telemetry, [b"two"])
    assert watching.seen == []
    assert telemetry.value("grpc_server_handled_total", grpc_code="OK") == 3


@WAYS
def test_sizes_of_messages(run: Run) -> None:
    """Each message of both sides is in the histograms, and of a long stream the first hundred each way."""
    telemetry = MemoryTelemetry(message_sizes=True)
    run(telemetry, [b"x" * 40] * (MAX_SIZES + 5))
    for side in ("server", "client"):
        for way in ("received", "sent"):
            name = f"grpc_{side}_msg_size_{way}_bytes"
            assert telemetry.value(f"{name}_count", grpc_type="unary") == 2
            assert telemetry.value(f"{name}_sum", grpc_type="unary") == 6
            assert telemetry.value(f"{name}_bucket", grpc_type="bidi_stream", le="32.0") == 0
            assert telemetry.value(f"{name}_bucket", grpc_type="bidi_stream", le="64.0") == MAX_SIZES
            assert telemetry.value(f"grpc_{side}_msg_{way}_total", grpc_type="bidi_stream") == MAX_SIZES + 5


def test_there_are_no_sizes_unless_asked_for() -> None:
    """Without the option there is no such metric."""
    telemetry = MemoryTelemetry()
    by_threads(telemetry, [])
    assert not [metric.name for metric in telemetry.registry.collect() if "msg_size" in metric.name]


def hide(name: str, value: str) -> str:
    if value == "broken":
        raise ValueError(value)
    return f"{name}={value[:1]}"


@pytest.mark.parametrize("side", ["server", "client"])
def test_redaction_of_metadata(side: str) -> None:
    """What metadata_attributes brings is shown as the hook says; a failure shows nothing, and is counted."""
    observed = MemoryTelemetry(metadata_attributes=["x-tenant", "x-api-key"], redact=hide)
    server, client = (observed, MemoryTelemetry()) if side == "server" else (MemoryTelemetry(), observed)
    metadata = (("x-tenant", "acme"), ("x-tenant", "broken"), ("x-api-key", "s3cret"))
    with sync_server(server) as target, channel(client, target) as made:
        assert made.unary_unary(UNARY)(b"one", metadata=metadata, timeout=60) == b"one"
    (span,) = observed.spans()
    assert span.attributes is not None
    assert span.attributes["rpc.request.header.x-tenant"] == ("rpc.request.header.x-tenant=a", "[REDACTED]")
    assert span.attributes["rpc.request.header.x-api-key"] == ("[REDACTED]",)
    assert observed.value("telemetry_signal_failures_total", signal="redact") == 1


def test_redaction_of_log_fields() -> None:
    """Each text that extra adds to a line is shown as the hook says; other values, and the message, as they are."""
    telemetry = MemoryTelemetry(redact=hide)
    telemetry.capture_logs()
    logging.getLogger("mine").info("hello", extra={"user": "ada", "email": "broken", "count": 3})
    (line,) = [line for line in telemetry.lines() if line["event"] == "hello"]
    telemetry.shutdown()
    assert (line["user"], line["email"], line["count"]) == ("user=a", "[REDACTED]", 3)


def test_buckets_of_http_are_their_own() -> None:
    """Histograms of calls end at one bound, those of HTTP at another."""
    telemetry = MemoryTelemetry(buckets=(1, 60), http_buckets=(0.5, 30))
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "hello")
    telemetry.instrument_flask(app)
    assert app.test_client().get("/").data == b"hello"
    by_threads(telemetry, [])
    assert bounds(telemetry, "http_server_request_duration_seconds") == {"0.5", "30.0", "+Inf"}
    assert bounds(telemetry, "grpc_server_handling_seconds") == {"1.0", "60.0", "+Inf"}


def bounds(telemetry: MemoryTelemetry, name: str) -> set[str]:
    telemetry.force_flush()
    return {
        sample.labels["le"]
        for metric in telemetry.registry.collect()
        for sample in metric.samples
        if sample.name == f"{name}_bucket"
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"buckets": 5}, "buckets must be upper bounds in seconds, each above the last, got 5"),
        ({"http_buckets": ()}, "http_buckets must be upper bounds in seconds, each above the last, got ()"),
        ({"http_buckets": ("1",)}, "http_buckets must be upper bounds in seconds, each above the last, got ('1',)"),
        ({"buckets": (float("nan"), 1)}, "buckets must be upper bounds"),
        ({"request_hook": "f"}, "request_hook must be a function, got 'f'"),
        ({"response_hook": 1}, "response_hook must be a function, got 1"),
        ({"redact": ["x"]}, "redact must be a function, got ['x']"),
        ({"message_sizes": "yes"}, "message_sizes must be True or False, got 'yes'"),
    ],
)  # fmt: skip
def test_wrong_options_are_errors_at_once(options: Any, said: str) -> None:
    """They name the option, what it must be, and what it got."""
    with pytest.raises(ValueError, match=re.escape(said)):
        Telemetry("x", registry=CollectorRegistry(), **options)
