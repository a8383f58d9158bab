"""What a user adds to the telemetry of calls: labels, metadata, saturation, old names, contrib beside it."""

import logging
from typing import Any

import grpc
import pytest
from opentelemetry.instrumentation.grpc import client_interceptor, server_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from observability.call import Call
from observability.signals.metrics import ExtraLabel
from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import channel, sync_server, threaded_server

METHOD = "/test.Service/returns"


def tier(call: Call) -> str:
    return str(dict(call.metadata).get("tier", ""))


def test_extra_labels_are_bounded() -> None:
    """A custom label is computed per call; a value that was not foreseen is `_OTHER`."""
    label = ExtraLabel(frozenset({"free", "paid"}), tier)
    server = MemoryTelemetry(extra_labels={"tier": label})
    server.declare(METHOD, "NOT_FOUND")
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        for value in ("free", "paid", "paid", "someone@example.org"):
            made.unary_unary(METHOD)(b"x", metadata=(("tier", value),), timeout=10)
        eventually(lambda: server.value("grpc_server_handled_total") == 4)
    counts = {
        tier: server.value("grpc_server_handled_total", tier=tier, grpc_code="OK")
        for tier in ("free", "paid", "_OTHER", "someone@example.org")
    }
    assert counts == {"free": 1, "paid": 2, "_OTHER": 1, "someone@example.org": 0}
    assert server.value("grpc_server_in_flight", tier="paid") == 0


def test_metadata_is_shown_where_it_is_allowed() -> None:
    """Allowed keys become attributes, repeated ones all their values; a secret is redacted though allowed."""
    server = MemoryTelemetry(metadata_attributes=("X-Tenant", "authorization"))
    sent = (("x-tenant", "a"), ("x-tenant", "b"), ("authorization", "Bearer 1"), ("x-other", "c"))
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary(METHOD)(b"x", metadata=sent, timeout=10)
        eventually(server.spans)
    (span,) = server.spans()
    shown = {key: value for key, value in (span.attributes or {}).items() if "header" in key}
    assert shown == {
        "rpc.request.header.x-tenant": ("a", "b"),
        "rpc.request.header.authorization": ("[REDACTED]",),
    }


def test_deadline() -> None:
    """A span has the deadline at the start and what was left at the end; a histogram how much was used."""
    server = MemoryTelemetry()
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary(METHOD)(b"x", timeout=10)
        eventually(server.spans)
    (span,) = server.spans()
    attributes: Any = span.attributes
    assert 0 < attributes["rpc.grpc.deadline_left_ms"] <= attributes["rpc.grpc.deadline_ms"] < 11_000
    assert server.value("grpc_server_deadline_used_ratio_count") == 1
    assert server.value("grpc_server_deadline_used_ratio_bucket", le="1.0") == 1


def test_retries_of_grpc_are_attempts() -> None:
    """What gRPC itself tries again is one call of the client, and the server learns how often it was tried."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    policy = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s",'
        ' "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}'
    )
    options = [("grpc.service_config", policy), ("grpc.enable_retries", 1)]
    with sync_server(server) as target, grpc.insecure_channel(target, options=options) as bare:
        made: Any = grpc.intercept_channel(bare, *client.client_interceptors(target))
        with pytest.raises(grpc.RpcError):
            made.unary_unary("/test.Service/aborts")(b"UNAVAILABLE", timeout=10)
        eventually(lambda: server.value("grpc_server_handled_total", grpc_code="UNAVAILABLE") == 3)
    assert client.value("grpc_client_handled_total", grpc_code="UNAVAILABLE") == 1
    assert [line.get("previous_attempts", 0) for line in server.lines()] == [0, 1, 2]
    spans: Any = server.spans()
    assert [span.attributes.get("rpc.grpc.previous_attempts", 0) for span in spans] == [0, 1, 2]


def test_time_to_the_first_message() -> None:
    """A stream reports on both sides how long its first response took; a unary call has none."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    with sync_server(server) as target, channel(client, target) as made:
        list(made.stream_stream("/test.Service/count")(iter([b"1", b"2"]), timeout=10))
        made.unary_unary(METHOD)(b"x", timeout=10)
        eventually(lambda: server.value("grpc_server_handled_total") == 2)
    for side, telemetry in (("server", server), ("client", client)):
        assert telemetry.value(f"grpc_{side}_first_message_seconds_count") == 1
        assert telemetry.value(f"grpc_{side}_msg_sent_total", grpc_type="bidi_stream") == 2
        assert telemetry.value(f"grpc_{side}_msg_received_total", grpc_type="bidi_stream") == 2


def test_messages_are_counted_as_they_pass() -> None:
    """The counters of a stream that is still open hold what has passed."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    with sync_server(server) as target, channel(client, target) as made:
        stream = made.unary_stream("/test.Service/ticks")(b"x", timeout=10)
        assert [next(stream) for _ in range(3)] == [b"x"] * 3
        assert client.value("grpc_client_msg_received_total") == 3
        assert server.value("grpc_server_msg_sent_total") >= 3
        assert client.value("grpc_client_in_flight") == 1
        stream.cancel()


def test_saturation_of_the_pool() -> None:
    """A threaded server reports how many threads it has, how many serve, and how long calls waited for one."""
    server = MemoryTelemetry()
    with (
        threaded_server(server.server_interceptors(workers=1), workers=1) as target,
        channel(MemoryTelemetry(), target) as made,
    ):
        slow = made.unary_unary("/test.Service/slow").future(b"x", timeout=10)
        eventually(lambda: server.value("grpc_server_pool_busy") == 1)
        waiting = made.unary_unary(METHOD).future(b"x", timeout=10)
        slow.cancel()
        assert waiting.result(10) == b"x"
        eventually(lambda: server.value("grpc_server_pool_busy") == 0)
    assert server.value("grpc_server_pool_workers") == 1
    assert server.value("grpc_server_pool_queue_seconds_count") == 2


def test_old_names_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rpc/dup` adds the attributes of the conventions before the stable ones; without it there are none."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "rpc/dup")
    both = MemoryTelemetry()
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "")
    new = MemoryTelemetry()
    for telemetry in (both, new):
        with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
            made.unary_unary(METHOD)(b"x", timeout=10)
            eventually(telemetry.spans)
    old = {"rpc.system": "grpc", "rpc.service": "test.Service", "rpc.grpc.status_code": 0}
    assert old.items() <= dict(both.spans()[0].attributes or {}).items()
    assert both.spans()[0].attributes.keys() - new.spans()[0].attributes.keys() == old.keys()  # type: ignore[union-attr]


class Contrib:
    """Contrib's own provider, and the spans that it made."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self) -> tuple[Any, ...]:
        return self._exporter.get_finished_spans()


@pytest.mark.parametrize("first", ["ours", "contrib's"])
def test_one_span_beside_contrib_on_a_server(first: str, caplog: pytest.LogCaptureFixture) -> None:
    """With contrib's interceptor on the same server, a call has one span, whose id the log has; it warns once."""
    contrib, server = Contrib(), MemoryTelemetry()
    theirs = server_interceptor(contrib.provider)  # type: ignore[no-untyped-call]
    ours = server.server_interceptors()
    interceptors = [*ours, theirs] if first == "ours" else [theirs, *ours]
    with (
        caplog.at_level(logging.WARNING, "observability"),
        threaded_server(interceptors) as target,
        grpc.insecure_channel(target) as bare,
    ):
        made: Any = bare
        for _ in range(2):
            made.unary_unary(METHOD)(b"x", timeout=10)
        eventually(lambda: len(server.lines()) == 2)
    spans = [*server.spans(), *contrib.spans()]
    assert [span.kind for span in spans] == [SpanKind.SERVER] * 2
    assert {line["span_id"] for line in server.lines()} == {f"{span.context.span_id:016x}" for span in spans}
    assert sum("opentelemetry.instrumentation.grpc is loaded" in text for text in caplog.messages) == 1


def test_one_span_beside_contrib_on_a_channel(caplog: pytest.LogCaptureFixture) -> None:
    """With contrib's interceptor on the same channel, a call has one span."""
    contrib, server, client = Contrib(), MemoryTelemetry(), MemoryTelemetry()
    with sync_server(server) as target, grpc.insecure_channel(target) as bare:
        theirs = intercept_channel(bare, client_interceptor(contrib.provider))  # type: ignore[no-untyped-call]
        made: Any = grpc.intercept_channel(theirs, *client.client_interceptors(target))
        assert made.unary_unary(METHOD)(b"x", timeout=10) == b"x"
        eventually(server.spans)
    assert [len(client.spans()), len(contrib.spans())] == [1, 0]
    assert server.spans()[0].parent.span_id == client.spans()[0].context.span_id  # type: ignore[union-attr]


def test_a_provider_of_ones_own() -> None:
    """With one's own provider the spans go where it sends them, and are as with ours."""
    own = Contrib()
    server = MemoryTelemetry(tracer_provider=own.provider)
    with sync_server(server) as target, channel(MemoryTelemetry(), target) as made:
        with pytest.raises(grpc.RpcError):
            made.unary_unary("/test.Service/raises")(b"x", timeout=10)
        eventually(own.spans)
    (span,) = own.spans()
    assert span.attributes["rpc.status_code"] == "UNKNOWN"
    assert [event.name for event in span.events] == ["exception"]
    assert server.spans() == ()
