"""The composition root: the journal, the signals in their order, and what a service does with them."""

import atexit
import logging
import ssl
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, TextIO

import grpc
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import filters
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from observability import checks, fork, reloader
from observability.call import Method
from observability.grpc.aio_client import aio_client_interceptors
from observability.grpc.aio_server import AioServerInterceptor
from observability.grpc.client import ClientInterceptor
from observability.grpc.contrib import Contrib
from observability.grpc.deadline import DeadlineInterceptor, aio_deadline_interceptors
from observability.grpc.handlers import KINDS
from observability.grpc.recorder import Recorder
from observability.grpc.server import ServerInterceptor
from observability.grpc.target import address_of
from observability.journal import Journal
from observability.metrics_server import MetricsServer
from observability.propagation import Callers, PublicEndpoint
from observability.settings import read, sampler, span_limits
from observability.signals import exporters
from observability.signals.export import ExportQueue, SpanQueue
from observability.signals.families import Families, shared
from observability.signals.line import Line
from observability.signals.logs import Capture, Logs, LogStream
from observability.signals.metrics import BUCKETS_S, ExtraLabel, Metrics, Options
from observability.signals.own import OwnMetrics
from observability.signals.provider import CallSpans, OwnCallSpans
from observability.signals.redaction import Redact, Redaction
from observability.signals.tracing import Tracing
from observability.tally import Tally
from observability.watched import Hook, Watch

if TYPE_CHECKING:
    from flask import Flask

QUIET_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
MIN_S = 0.2  # what each edge gets at the end, even if the others used up the time
Exclude = Callable[[Any], bool]


class Telemetry:
    """Traces, metrics and logs of one service, made from one record of each call.

    Reads OpenTelemetry's variables (OTEL_*); keyword arguments win over them.

    - service: the service's name, which OTEL_SERVICE_NAME replaces; version: its version.
    - tracer_provider: makes the spans; by default one that exports by OTLP. One that you pass is yours to
      shut down.
    - registry: where metrics are registered; by default prometheus_client's. Two Telemetry may share one.
    - log_stream: the text stream of the log lines; standard output by default.
    - exclude: a condition of opentelemetry.instrumentation.grpc.filters; methods that meet it are counted,
      but neither traced nor logged, as are health checks, reflection and what
      OTEL_PYTHON_GRPC_EXCLUDED_SERVICES names.
    - public_endpoint: True where callers are strangers: their traces are not continued but linked, their
      sampling and their baggage count for nothing. A function public_endpoint(record), of the record of the
      call or request, decides for each. By default, OBSERVABILITY_PUBLIC_ENDPOINT decides; if unset, none is.
    - extra_labels: custom labels on the metrics of calls, by name, each from a bounded set.
    - metadata_attributes: keys of request metadata whose values become attributes of spans; a key that looks
      like a secret is redacted in any case. No other metadata is shown.
    - buckets: the upper bounds, in seconds, of the histograms of durations, by default 14 from 0.001 to 10;
      http_buckets: those of HTTP requests, the same by default.
    - convention_metrics: whether there are OpenTelemetry's own histograms, too
      (rpc_server_call_duration_seconds, rpc_client_call_duration_seconds).
    - message_sizes: whether there are histograms of the sizes of messages in bytes, before compression
      (grpc_server_msg_size_received_bytes, grpc_server_msg_size_sent_bytes, and the same with grpc_client_),
      of protobuf messages and bytes. A call is measured at its end; of a stream, the first
      100 messages each way.
    - request_hook, response_hook: called as hook(call, message) with the call's record and each request or
      response, of servers and clients, before the call ends; call.span is the span. They run in the call,
      so they must be quick and change nothing; on a threaded server's streams of requests, on a thread of
      gRPC's. Calls that are not traced have none. What they return is ignored; what they raise is counted.
    - redact: called as redact(name, value) for each attribute that metadata_attributes brings, and for
      each text among the fields that `extra` and structlog's keywords add to log lines; it returns the text
      to show. When it raises, the value is [REDACTED]. Metadata that looks like a secret does not reach it.

    Raises ValueError when an argument is wrong, a name among extra_labels is taken, or the registry has our
    metrics with other labels. As a context manager, it is shut down at the end.
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
        public_endpoint: PublicEndpoint | None = None,
        extra_labels: Mapping[str, ExtraLabel] | None = None,
        metadata_attributes: Collection[str] = (),
        buckets: Sequence[float] = BUCKETS_S,
        http_buckets: Sequence[float] | None = None,
        convention_metrics: bool = False,
        message_sizes: bool = False,
        request_hook: Hook | None = None,
        response_hook: Hook | None = None,
        redact: Redact | None = None,
    ) -> None:
        checks.options(service, exclude, extra_labels, metadata_attributes)
        checks.bounds("buckets", buckets)
        checks.bounds("http_buckets", buckets if http_buckets is None else http_buckets)
        checks.flag("convention_metrics", convention_metrics)
        checks.flag("message_sizes", message_sizes)
        checks.public_endpoint(public_endpoint)
        checks.hooks(request_hook=request_hook, response_hook=response_hook, redact=redact)
        self._settings = read()
        self.service = self._settings.service_name or service
        self.registry = registry
        self.tally = Tally()
        self.journal = Journal(self.tally)
        self._exclude = _any_of(exclude, self._settings.excluded_services)
        self._contrib = Contrib()
        self._families = Families.of(registry)
        self._own = OwnMetrics(self._families, self.tally)
        options = Options(
            extra_labels or {},
            tuple(buckets),
            tuple(http_buckets or buckets),
            convention=convention_metrics,
            sizes=message_sizes,
        )
        self._watch = Watch(request_hook, response_hook, sizes=message_sizes)
        self._redaction = Redaction(redact, self.tally)
        self._metrics = Metrics(self.journal, self._families, self._own, options)
        for side in ("server", "client"):
            self._metrics.view(side)
        self._capture: Capture | None = None
        self._queue = self._processor() if tracer_provider is None else None
        self._spans = self._call_spans(tracer_provider, version)
        self.tracer_provider = tracer_provider or self._spans.provider  # type: ignore[attr-defined]
        self._lines = self._line_queue()
        self._stream = LogStream(log_stream or sys.stdout, self.service, self.tally, self._lines)
        public = self._settings.public_endpoint if public_endpoint is None else public_endpoint
        self._callers = Callers(public, self.tally)
        self._tracing = Tracing(
            self._spans,
            self.tally,
            self._callers,
            metadata_attributes,
            old_names=self._settings.old_rpc_names,
            redaction=self._redaction,
        )
        self.journal.signals = [self._metrics, Logs(self._stream, self.tally), self._tracing]
        self._servers: list[MetricsServer] = []
        self._is_shut_down = False
        self._describe(version)
        atexit.register(self.shutdown)
        fork.attach(self)

    def _processor(self) -> SpanProcessor | None:
        """Where finished spans go."""
        edge = self._settings.spans
        if self._settings.sdk_disabled or not edge.exporters:
            return None
        return SpanQueue(lambda: exporters.make(edge), edge, self.tally)

    def _line_queue(self) -> ExportQueue[Line] | None:
        """Where log lines go beside the stream."""
        edge = self._settings.lines
        if self._settings.sdk_disabled or edge is None:
            return None
        from observability.signals.log_export import LineQueue  # OpenTelemetry's modules of logs may yet move

        return LineQueue(edge, self._resource, self.tally)

    @property
    def _resource(self) -> Resource:
        resource: Resource = getattr(self.tracer_provider, "resource", Resource.get_empty())
        return resource

    def _queues(self) -> list[ExportQueue[Any]]:
        """Those with exporters behind them that are ours."""
        return [queue for queue in (self._queue, self._lines) if isinstance(queue, ExportQueue)]

    def _call_spans(self, provider: trace.TracerProvider | None, version: str) -> CallSpans:
        if provider is not None:
            return CallSpans(provider, version)
        attributes = {"service.name": self.service} | ({"service.version": version} if version else {})
        return OwnCallSpans(
            Resource.create(attributes),
            sampler(),
            span_limits(),
            self._queue,
            self.journal.flush,
            lambda: self.tally.failure("tracing"),
            version,
        )

    def _describe(self, version: str) -> None:
        self._own.watch("telemetry_record_queue_length", self.journal.__len__)
        self._own.watch("telemetry_log_queue_length", self._stream.lines.__len__)
        if isinstance(self._queue, SpanQueue):
            self._own.watch("telemetry_span_queue_length", self._queue.waiting.__len__)
        if self._lines is not None:
            self._own.watch("telemetry_log_record_queue_length", self._lines.waiting.__len__)
        attributes = self._resource.attributes
        instance = "" if shared() else str(attributes.get("service.instance.id", ""))
        host = str(attributes.get("host.name", ""))
        info = self._families.family(
            Gauge,
            "target_info",
            "The service that these metrics are of.",
            ("service_name", "service_version", "service_instance_id", "host_name"),
            multiprocess_mode="livemax",
        )
        info.labels(self.service, version, instance, host).set(1)

    def _recorder(self, side: str, address: str = "", port: int | None = None) -> Recorder:
        return Recorder(
            side, self.journal, self._tracing, self._contrib, self._is_quiet, self._watch, address, port
        )

    def _is_quiet(self, path: str) -> bool:
        try:
            return self._exclude(SimpleNamespace(method=path))
        except Exception:
            self.tally.failure("exclude")
            return False

    def server_interceptors(self, workers: int = 0) -> list[grpc.ServerInterceptor]:
        """For grpc.server(interceptors=...); put them first. workers is the size of the server's pool."""
        checks.workers(workers)
        self._metrics.view("pool").workers.set(workers)
        return [ServerInterceptor(self._recorder("server"))]

    def aio_server_interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """For grpc.aio.server(interceptors=...); put them first."""
        return [AioServerInterceptor(self._recorder("server"))]

    def client_interceptors(self, target: str = "", timeout_s: float | None = None) -> list[Any]:
        """For grpc.intercept_channel(channel, *...); put them first.

        target ("host:port") gives the spans the server's address; timeout_s is the deadline, in seconds, of
        calls that are made without one.
        """
        deadline = [] if timeout_s is None else [DeadlineInterceptor(timeout_s)]
        return [*deadline, ClientInterceptor(self._recorder("client", *address_of(target)))]

    def aio_client_interceptors(
        self, target: str = "", timeout_s: float | None = None
    ) -> list[grpc.aio.ClientInterceptor]:
        """For grpc.aio.insecure_channel(target, interceptors=...); put them first.

        The arguments are those of client_interceptors.
        """
        deadline = [] if timeout_s is None else aio_deadline_interceptors(timeout_s)
        return [*deadline, *aio_client_interceptors(self._recorder("client", *address_of(target)))]

    def declare(self, path: str, *codes: str, side: str = "server", kind: str = "unary") -> None:
        """Create a method's series at zero, with OK and the codes that it is known to end with.

        path is "/package.Service/Method", codes are gRPC's names such as "NOT_FOUND"; side is "server" or
        "client", kind is "unary", "client_stream", "server_stream" or "bidi_stream". Raises ValueError when
        one of them is wrong.
        """
        checks.method(path, codes)
        checks.one_of("side", ("server", "client"), side)
        checks.one_of("kind", KINDS.values(), kind)
        service, _, name = path.lstrip("/").rpartition("/")
        self._metrics.view(side).declare(Method(side, kind, service, name), ("OK", *codes))

    def instrument_flask(self, app: "Flask") -> None:
        """Observe each request of the application. Raises RuntimeError when Flask is not installed."""
        try:
            from observability.flask import HttpEdge
        except ImportError as error:
            raise RuntimeError(f"{error}: it comes with grpc-flask-observability[flask]") from error

        self._metrics.view("http")
        excluded = self._settings.excluded_urls
        HttpEdge(self.journal, self.tracer_provider, self._callers, excluded).instrument(app)

    def capture_logs(self, level: str = "INFO") -> None:
        """Write the lines of Python's logging, from this level on, as JSON with the trace id.

        Until shutdown, the root logger has this level, and none of its handlers that write to standard output
        or error, or to log_stream: no line is written twice. Its other handlers keep working. Raises
        ValueError when the level is not one of logging's.
        """
        checks.level(level)
        if self._capture is None:
            self._capture = Capture(self._stream, self._redaction)
        logging.getLogger().setLevel(level)

    def serve_metrics(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None,
        tokens: Collection[str] | Callable[[], Collection[str]] | None = None,
    ) -> int:
        """Serve /metrics and return its port; 0 takes any.

        It answers in OpenMetrics to clients that ask for it: exemplars exist only in that format. `flask run
        --debug` loads the application in two processes: the port is served in the one that serves pages.

        - ssl_context: serve over TLS, with this ssl.SSLContext, whose verify_mode says whether clients must
          have a certificate.
        - tokens: clients must send one of these as a bearer token (RFC 6750).

        Either may be a function without arguments that returns it, which is called for each client, so that
        new certificates and tokens are taken without a restart.

        Raises OSError when the port is taken, ValueError when an argument is wrong.
        """
        checks.access(ssl_context, tokens)
        if reloader.watches_only():
            return port
        server = MetricsServer(port, host, self.registry, ssl_context, tokens)
        self._servers.append(server)
        return server.server_port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def force_flush(self, timeout_s: float = 5.0) -> bool:
        """Deliver what has ended to all signals and edges; False if timeout_s seconds are not enough."""
        checks.seconds("timeout_s", timeout_s)
        end = time.monotonic() + timeout_s

        def left() -> float:
            return max(end - time.monotonic(), 0)

        done = self.journal.flush(timeout_s)
        done = self._stream.lines.flush(left()) and done
        done = (self._lines is None or self._lines.waiting.flush(left())) and done
        return self._spans.flush(left()) and done

    def shutdown(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued, for at most timeout_s seconds, and stop; a second call does nothing."""
        checks.seconds("timeout_s", timeout_s)
        if self._is_shut_down:
            return
        self._is_shut_down = True
        atexit.unregister(self.shutdown)
        end = time.monotonic() + timeout_s
        while self._servers:
            self._servers.pop().close()
        self.journal.close(timeout_s)
        self._spans.shutdown(max(end - time.monotonic(), MIN_S))
        if self._capture is not None:
            self._capture.end()
            self._capture = None
        self._stream.close(max(end - time.monotonic(), MIN_S))
        if self._lines is not None:
            self._lines.end(max(end - time.monotonic(), MIN_S))
        self._metrics.shutdown()

    def hold(self) -> None:
        """Before a fork: wait until no thread of ours updates the metrics or makes an exporter."""
        self._families.lock.acquire()
        for queue in self._queues():
            queue.hold()

    def release(self) -> None:
        """After a fork, in the parent."""
        for queue in self._queues():
            queue.release()
        self._families.lock.release()

    def begin(self) -> None:
        """Start from nothing in a forked child: live and queued records are the parent's."""
        self._families.lock = threading.RLock()
        self.tally.begin()
        self.journal.begin()
        self._stream.lines.begin()
        for queue in self._queues():
            queue.begin()
        self._spans.begin()
        self._metrics.begin()
        for server in self._servers:
            server.socket.close()
        self._servers.clear()


def _any_of(exclude: Exclude | None, excluded: Iterable[str]) -> Exclude:
    conditions = [filters.service_name(name) for name in (*QUIET_SERVICES, *excluded)]
    return filters.any_of(*conditions, *([exclude] if exclude else []))
