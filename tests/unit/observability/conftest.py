"""Receivers that several tests need."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability import receiver as otlp


class Receiver(otlp.Receiver):
    """An OTLP receiver that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(self._keep)
        self.names: list[str] = []
        self.attributes: list[dict[str, Any]] = []
        self.resource: dict[str, Any] = {}
        self.requests = 0

    def _keep(self, resource: dict[str, Any], spans: Sequence[Span]) -> None:
        self.requests += 1
        self.resource = resource
        self.names += [span.name for span in spans]
        self.attributes += [otlp.attributes(span.attributes) for span in spans]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A real OTLP receiver, which the environment names."""
    with closing(Receiver()) as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A receiver that accepts connections and never answers, which the environment names."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield


class Http(ThreadingHTTPServer):
    """An OTLP receiver over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.names: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Http

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        otlp.hand_on(request, lambda _, spans: self.server.names.extend(span.name for span in spans))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[Http]:
    """It runs, and the environment names it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with Http() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
