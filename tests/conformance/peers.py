"""The peers as stacks: opentelemetry-instrumentation-grpc for spans, py-grpc-prometheus for metrics, or both."""

from collections import defaultdict
from typing import Any

import grpc
from opentelemetry.instrumentation.grpc import (
    aio_client_interceptors,
    aio_server_interceptor,
    client_interceptor,
    server_interceptor,
)
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from tests.conformance.outcomes import METRICS, SPANS, Recorded, Side, read_metrics, span_of
from tests.conformance.stacks import Bare

CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Peers(Bare):
    """One of them, or both of them together; py-grpc-prometheus knows nothing of asyncio."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._contrib, self._prometheus = name != "py-grpc-prometheus", name != "contrib"
        self._exporters: dict[str, list[InMemorySpanExporter]] = {"server": [], "client": []}
        self._registries: dict[str, list[CollectorRegistry]] = {"server": [], "client": []}

    def signals(self, flavour: str) -> frozenset[str]:
        """Which signals there are on servers and channels of that flavour."""
        metrics = self._prometheus and flavour == "sync"
        return frozenset({SPANS} if self._contrib else ()) | frozenset({METRICS} if metrics else ())

    def server(self, flavour: str) -> list[Any]:
        """Interceptors for a server, tracing first, as contrib's own instrumentor does it."""
        interceptors: list[Any] = []
        if self._contrib:
            make = server_interceptor if flavour == "sync" else aio_server_interceptor
            interceptors.append(make(tracer_provider=self._provider("server")))
        if self._prometheus and flavour == "sync":
            from py_grpc_prometheus.prometheus_server_interceptor import PromServerInterceptor

            interceptors.append(
                PromServerInterceptor(enable_handling_time_histogram=True, registry=self._registry("server"))
            )
        return interceptors

    def channel(self, bare: grpc.Channel, target: str) -> grpc.Channel:
        """A channel around a bare one, tracing outermost."""
        if self._prometheus:
            from py_grpc_prometheus.prometheus_client_interceptor import PromClientInterceptor

            registry = self._registry("client")
            metrics = PromClientInterceptor(enable_client_handling_time_histogram=True, registry=registry)
            bare = grpc.intercept_channel(bare, metrics)
        if self._contrib:
            bare = intercept_channel(bare, client_interceptor(tracer_provider=self._provider("client")))
        return bare

    def aio_client(self, target: str) -> list[Any]:
        """Interceptors for an asyncio channel."""
        provider = self._provider("client")
        interceptors: list[Any] = aio_client_interceptors(tracer_provider=provider) if self._contrib else []
        return interceptors

    def _provider(self, side: str) -> TracerProvider:
        exporter = InMemorySpanExporter()
        self._exporters[side].append(exporter)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return provider

    def _registry(self, side: str) -> CollectorRegistry:
        self._registries[side].append(CollectorRegistry())
        return self._registries[side][-1]

    def recorded(self, side: str) -> Side:
        """What their telemetry recorded."""
        recorded: Side = defaultdict(Recorded)
        for exporter in self._exporters[side]:
            for span in exporter.get_finished_spans():
                code = (span.attributes or {}).get("rpc.grpc.status_code")
                recorded[span.name.lstrip("/")].spans.append(span_of(span, CODES.get(code, "")))  # type: ignore[arg-type]
        for registry in self._registries[side]:
            read_metrics(recorded, registry, side, "grpc_code")
        return recorded
