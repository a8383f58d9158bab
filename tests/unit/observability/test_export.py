"""Exporting never holds up a call, is bounded at the end, and what it loses is counted."""

import socket
import time

import pytest
from prometheus_client import CollectorRegistry

from observability import Telemetry
from observability.testing import eventually
from tests.unit.observability.conftest import Receiver


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0


def make_spans(telemetry: Telemetry, count: int) -> None:
    tracer = telemetry.tracer_provider.get_tracer("test")
    for number in range(count):
        tracer.start_span(f"span {number}").end()


def test_spans_reach_the_receiver_with_the_resource(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every span is delivered by the end, and says which service, version, instance and host it is of."""
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "host")
    registry = CollectorRegistry()
    telemetry = Telemetry("exporting", version="1.2.3", registry=registry)
    make_spans(telemetry, 1000)
    telemetry.shutdown()
    assert len(receiver.names) == 1000
    assert receiver.resource["service.name"] == "exporting"
    assert receiver.resource["service.version"] == "1.2.3"
    assert receiver.resource["service.instance.id"]
    assert receiver.resource["host.name"] == socket.gethostname()
    assert value(registry, "telemetry_spans_exported_total") == 1000
    assert value(registry, "target_info", service_name="exporting", service_version="1.2.3",
                 service_instance_id=receiver.resource["service.instance.id"],
                 host_name=socket.gethostname()) == 1  # fmt: skip


def test_force_flush(receiver: Receiver) -> None:
    """A flush returns when what was waiting is delivered."""
    telemetry = Telemetry("flushing", registry=CollectorRegistry())
    make_spans(telemetry, 3)
    assert telemetry.tracer_provider.force_flush()  # type: ignore[union-attr]
    assert len(receiver.names) == 3
    telemetry.shutdown()


def test_a_silent_receiver_holds_up_nothing(silent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a receiver that never answers, spans end at once, the end is bounded, and all are counted as lost."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    registry = CollectorRegistry()
    telemetry = Telemetry("held up", registry=registry)
    make_spans(telemetry, 10)
    eventually(lambda: value(registry, "telemetry_span_queue_length") == 0)
    make_spans(telemetry, 150)
    assert value(registry, "telemetry_span_queue_length") == 100
    assert value(registry, "telemetry_spans_dropped_total", reason="queue_full") == 50
    started = time.monotonic()
    telemetry.shutdown(timeout_s=1)
    assert time.monotonic() - started < 10
    make_spans(telemetry, 1)
    lost = {reason: value(registry, "telemetry_spans_dropped_total", reason=reason)
            for reason in ("queue_full", "export_failed", "shutdown")}  # fmt: skip
    assert sum(lost.values()) == 161
    assert value(registry, "telemetry_spans_exported_total") == 0


def test_a_receiver_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody listening, the spans are counted as failed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    registry = CollectorRegistry()
    telemetry = Telemetry("alone", registry=registry)
    make_spans(telemetry, 5)
    telemetry.shutdown(timeout_s=1)
    telemetry.shutdown(timeout_s=1)
    lost = [value(registry, "telemetry_spans_dropped_total", reason=reason)
            for reason in ("export_failed", "shutdown")]  # fmt: skip
    assert sum(lost) == 5


def test_unsampled_spans_stay_here(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_SAMPLER decides which spans go out; the others are no loss."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    registry = CollectorRegistry()
    telemetry = Telemetry("unsampled", registry=registry)
    make_spans(telemetry, 5)
    telemetry.shutdown()
    assert receiver.names == []
    assert value(registry, "telemetry_spans_dropped_total", reason="queue_full") == 0


@pytest.mark.parametrize(
    ("variable", "text"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")]
)
def test_traces_can_be_off(
    variable: str, text: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where traces are off, nothing is exported and the rest goes on."""
    monkeypatch.setenv(variable, text)
    telemetry = Telemetry("off", registry=CollectorRegistry())
    make_spans(telemetry, 5)
    telemetry.shutdown()
    assert receiver.names == []
