"""kubernetes/collector.yaml in a real collector: it keeps the failed and the slow traces, and a few of the rest."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from observability.testing import eventually
from tests.e2e.processes import Receiver, free_ports, get
from tests.stack.cluster import ROOT, tool

MS = 1_000_000  # nanoseconds
OF_A_KIND = 500


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[str, Receiver]]:
    """Where it receives, and what takes its spans; it decides after a second, on other ports."""
    receives, health = (f"127.0.0.1:{port}" for port in free_ports(2))
    receiver = Receiver()
    changed = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": receives}}}},
        "processors": {"tail_sampling": {"decision_wait": "1s"}},
        "exporters": {"otlp_grpc": {"endpoint": receiver.endpoint.removeprefix("http://")}},
        "extensions": {"health_check": {"endpoint": health}},
    }
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(changed))
    configs = (
        f"--config={path}" for path in (ROOT / "kubernetes" / "collector.yaml", tmp_path / "changed.yaml")
    )
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([tool("otelcol"), *configs], stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: get(f"http://{health}/")[0] == 200, 30)
        yield receives, receiver
    finally:
        process.terminate()
        process.wait(30)
        receiver.close()


def span(name: str, duration_ms: int, code: Status.StatusCode.ValueType = Status.STATUS_CODE_UNSET) -> Span:
    return Span(
        name=name,
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        start_time_unix_nano=MS,
        end_time_unix_nano=MS + duration_ms * MS,
        status=Status(code=code),
    )


def test_it_keeps_what_somebody_will_look_for(collector: tuple[str, Receiver]) -> None:
    """All that failed or took over 300 ms are kept, and at most a tenth of those that were well."""
    target, receiver = collector
    spans = [
        each
        for _ in range(OF_A_KIND)
        for each in (span("failed", 10, Status.STATUS_CODE_ERROR), span("slow", 301), span("well", 299))
    ]
    name = KeyValue(key="service.name", value=AnyValue(string_value="shop"))
    shop = ResourceSpans(resource=Resource(attributes=[name]), scope_spans=[ScopeSpans(spans=spans)])
    with grpc.insecure_channel(target) as channel:
        TraceServiceStub(channel).Export(ExportTraceServiceRequest(resource_spans=[shop]), timeout=10)

    def kept(name: str) -> int:
        return sum(each.name == name for _, each in receiver.spans)

    eventually(lambda: kept("failed") == kept("slow") == OF_A_KIND, 30)
    assert kept("well") < OF_A_KIND / 10
