"""The signals in their order, and what a service does with them."""

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TextIO

import grpc
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import filters
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, TracerProvider
from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from observability.call import Method, Recorder, Signal
from observability.contrib import Contrib
from observability.export import SpanQueue
from observability.failures import Failures
from observability.families import family, shared
from observability.interceptors.aio_client import aio_client_interceptors
from observability.interceptors.aio_server import AioServerInterceptor
from observability.interceptors.client import ClientInterceptor
from observability.interceptors.deadline import DeadlineInterceptor, aio_deadline_interceptors
from observability.interceptors.server import ServerInterceptor
from observability.logs import CallLog, JsonHandler, LogStream
from observability.metrics import ExtraLabel, Metrics, MetricsServer, Saturation
from observability.settings import (
    choose_stable_conventions,
    excluded_services,
    exports_traces,
    is_disabled,
    wants_old_rpc_names,
)
from observability.tracers import CallTracer, SdkTracer
from observability.tracing import Tracing

if TYPE_CHECKING:
    from flask import Flask

QUIET_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
SCHEME = re.compile(r"^(\w+://[^/]*/|dns:|ipv4:|ipv6:)")
HOST_AND_PORT = re.compile(r"(\[[^\]]+\]|[^:,]+):([0-9]{1,5})")
Exclude = Callable[[Any], bool]


class Telemetry:
    """Traces, metrics and logs of one service, told from one record of each call.

    Reads OpenTelemetry's variables (OTEL_*); keyword arguments win over them.

    - service, version: the service's name and version, in traces, logs and target_info.
    - tracer_provider: makes the spans; by default one that exports by OTLP. Yours stays yours to shut down.
    - registry: where metrics are registered; prometheus_client's own by default. Two Telemetry may share one.
    - log_stream: the text stream of the log lines; standard output by default.
    - exclude: a condition of opentelemetry.instrumentation.grpc.filters; methods that meet it are counted,
      but neither traced nor logged, as are health checks, reflection and what
      OTEL_PYTHON_GRPC_EXCLUDED_SERVICES names.
    - extra_labels: labels of your own on the metrics of calls, by name, each from a bounded set.
    - metadata_attributes: keys of request metadata whose values become attributes of spans; what looks like
      a secret is redacted all the same. No other metadata is shown.

    Raises ValueError when a variable has a value that is not allowed.
    """

    def __init__(
        self,
        service: str,
        *,
        version: str = "",
        tracer_provider: trace.TracerProvider | None = None,
        registry: CollectorRegistry = REGISTRY,
        log_stream: TextIO | None = None,
        exclude: Exclude | None = None,
        extra_labels: Mapping[str, ExtraLabel] | None = None,
        metadata_attributes: Iterable[str] = (),
    ) -> None:
        choose_stable_conventions()
        self.registry = registry
        self.failures = Failures(registry)
        self._spans = self._processor() if tracer_provider is None else None
        self._processors = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]
        self.tracer_provider = tracer_provider or self._provider(service, version)
        self._stream = LogStream(log_stream or sys.stdout, service)
        self._log_handler: JsonHandler | None = None
        self._contrib = Contrib()
        self._tracing = Tracing(
            self._tracer(version, is_ours=tracer_provider is None),
            self._contrib,
            metadata_attributes,
            dup=wants_old_rpc_names(),
        )
        self._log = CallLog(self._stream)
        self._exclude = _any_of(exclude)
        self._metrics = {side: Metrics(side, registry, extra_labels) for side in ("server", "client")}
        self._servers: list[MetricsServer] = []
        self._describe(service, version)

    def _processor(self) -> SpanProcessor | None:
        """Where finished spans go."""
        if not exports_traces():
            return None
        from observability.otlp import CallSpanExporter

        return SpanQueue(CallSpanExporter, self.registry, self.failures)

    def _provider(self, service: str, version: str) -> TracerProvider:
        attributes = {"service.name": service} | ({"service.version": version} if version else {})
        resource, processors = Resource.create(attributes), self._processors
        provider = TracerProvider(resource=resource, shutdown_on_exit=False, active_span_processor=processors)
        if self._spans is not None:
            provider.add_span_processor(self._spans)
        return provider

    def _tracer(self, version: str, *, is_ours: bool) -> CallTracer | SdkTracer:
        if is_ours and not is_disabled() and isinstance(self.tracer_provider, TracerProvider):
            return CallTracer(self.tracer_provider, self._processors, version)
        return SdkTracer(self.tracer_provider.get_tracer("observability", version))

    def _describe(self, service: str, version: str) -> None:
        resource = getattr(self.tracer_provider, "resource", Resource.get_empty())
        instance = "" if shared() else str(resource.attributes.get("service.instance.id", ""))
        labels = ("service_name", "service_version", "service_instance_id")
        info = family(
            Gauge,
            "target_info",
            "The service that these metrics are of.",
            labels,
            self.registry,
            multiprocess_mode="livemax",
        )
        info.labels(service, version, instance).set(1)

    def _recorder(self, side: str, address: str = "", port: int | None = None, *more: Signal) -> Recorder:
        signals: list[Signal] = [self._tracing, self._metrics[side], self._log, *more]
        return Recorder(side, signals, self.failures, self._is_quiet, address, port)

    def _is_quiet(self, path: str) -> bool:
        try:
            return self._exclude(SimpleNamespace(method=path))
        except Exception:
            self.failures.count("exclude")
            return False

    def server_interceptors(self, workers: int = 0) -> list[grpc.ServerInterceptor]:
        """For grpc.server(interceptors=...); put them first. workers is the size of the server's pool."""
        recorder = self._recorder("server", "", None, Saturation(workers, self.registry))
        return [ServerInterceptor(recorder, self.failures, self._contrib)]

    def aio_server_interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """For grpc.aio.server(interceptors=...); put them first."""
        return [AioServerInterceptor(self._recorder("server"), self.failures, self._contrib)]

    def client_interceptors(self, target: str = "", timeout_s: float | None = None) -> list[Any]:
        """For grpc.intercept_channel(channel, *...); put them first.

        target ("host:port") tells the spans the server's address; timeout_s is the deadline, in seconds, of
        calls that are made without one.
        """
        deadline = [] if timeout_s is None else [DeadlineInterceptor(timeout_s)]
        recorder = self._recorder("client", *_address(target))
        return [*deadline, ClientInterceptor(recorder, self.failures, self._contrib)]

    def aio_client_interceptors(
        self, target: str = "", timeout_s: float | None = None
    ) -> list[grpc.aio.ClientInterceptor]:
        """For grpc.aio.insecure_channel(target, interceptors=...); put them first. Arguments as above."""
        deadline = [] if timeout_s is None else aio_deadline_interceptors(timeout_s)
        recorder = self._recorder("client", *_address(target))
        return [*deadline, *aio_client_interceptors(recorder, self.failures, self._contrib)]

    def declare(self, path: str, *codes: str, side: str = "server", kind: str = "unary") -> None:
        """Put a method's series at zero from the start, with OK and the codes that it is known to end with.

        path is "/package.Service/Method", codes are gRPC's names such as "NOT_FOUND".
        """
        service, _, name = path.lstrip("/").rpartition("/")
        self._metrics[side].declare(Method(side, kind, service, name), ("OK", *codes))

    def instrument_flask(self, app: "Flask") -> None:
        """Observe each request of the application; call it before other hooks are added."""
        from observability.http import HttpEdge

        HttpEdge(self.tracer_provider, self.registry, self._stream, self.failures).instrument(app)

    def capture_logs(self, level: str = "INFO") -> None:
        """Write the lines of Python's logging, from this level on, as JSON with the trace id."""
        if self._log_handler is None:
            self._log_handler = JsonHandler(self._stream)
            logging.getLogger().addHandler(self._log_handler)
        logging.getLogger().setLevel(level)

    def serve_metrics(self, port: int, host: str = "127.0.0.1") -> int:
        """Serve /metrics and return its port; 0 takes any. Raises OSError when the port is taken."""
        server = MetricsServer(port, host, self.registry)
        self._servers.append(server)
        return server.port

    def shutdown(self, timeout_s: float = 5.0) -> None:
        """Deliver what waits, for at most timeout_s, and stop; a second call does nothing."""
        if isinstance(self._spans, SpanQueue):
            self._spans.shutdown(timeout_s)
        while self._servers:
            self._servers.pop().close()
        if self._log_handler is not None:
            logging.getLogger().removeHandler(self._log_handler)
            self._log_handler = None


def _any_of(exclude: Exclude | None) -> Exclude:
    names: Iterable[str] = (*QUIET_SERVICES, *excluded_services())
    conditions = [filters.service_name(name) for name in names]
    return filters.any_of(*conditions, *([exclude] if exclude else []))


def _address(target: str) -> tuple[str, int | None]:
    """Host and port of a gRPC target; the path of a socket, or a list of addresses, comes back as it is.

    Forms: https://github.com/grpc/grpc/blob/master/doc/naming.md
    """
    if target.startswith("unix:"):
        return target.removeprefix("unix:").removeprefix("//"), None
    name = SCHEME.sub("", target)
    found = HOST_AND_PORT.fullmatch(name)
    return (found[1].strip("[]"), int(found[2])) if found else (name, None)
