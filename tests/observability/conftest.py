"""Receivers that several tests need."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans by OTLP; says that it rejects as many of each request as `rejects`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.attributes: list[dict[str, str]] = []
        self.resource: dict[str, str] = {}
        self.requests = 0
        self.rejects = 0

    def Export(self, request: Any, context: Any) -> Any:
        self.requests += 1
        for resource in request.resource_spans:
            self.resource = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.names += [span.name for span in scope.spans]
                self.attributes += [
                    {pair.key: pair.value.string_value for pair in span.attributes} for span in scope.spans
                ]
        rejected = trace_service_pb2.ExportTracePartialSuccess(rejected_spans=self.rejects)
        return trace_service_pb2.ExportTraceServiceResponse(partial_success=rejected)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A real OTLP receiver, which the environment names."""
    servicer = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    server.start()
    yield servicer
    server.stop(None).wait()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A receiver that accepts connections and never answers, which the environment names."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield
