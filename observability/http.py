"""The Flask edge: each request's span (by OpenTelemetry's own instrumentation), metrics and log line.

Convention: https://opentelemetry.io/docs/specs/semconv/http/
"""

import time
from typing import Any

from flask import Flask, Response, g, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider, get_current_span
from prometheus_client import CollectorRegistry, Gauge, Histogram

from observability.call import OTHER
from observability.failures import Failures
from observability.families import family
from observability.logs import LogStream
from observability.metrics import BUCKETS_S, exemplar

QUIET_PATHS = ("/livez", "/readyz", "/metrics")
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
SERVER_ERROR = 500


class HttpEdge:
    """Observes the requests of Flask applications."""

    def __init__(
        self,
        tracer_provider: TracerProvider,
        registry: CollectorRegistry,
        stream: LogStream,
        failures: Failures,
    ) -> None:
        self._tracer_provider, self._stream, self._failures = tracer_provider, stream, failures
        self._seconds = family(
            Histogram,
            "http_server_request_duration_seconds",
            "How long HTTP requests took.",
            ("http_request_method", "http_route", "http_response_status_code"),
            registry,
            buckets=BUCKETS_S,
        )
        self._active = family(
            Gauge,
            "http_server_active_requests",
            "HTTP requests that have not ended.",
            ("http_request_method",),
            registry,
        )

    def instrument(self, app: Flask) -> None:
        """Observe each request of the application; call it once, before other hooks are added."""
        FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
            app,
            tracer_provider=self._tracer_provider,
            meter_provider=NoOpMeterProvider(),
            excluded_urls=",".join(_quiet_urls(app)),
            enable_commenter=False,  # it attaches a context that nobody detaches
        )
        app.before_request(self._start)
        app.after_request(self._answer)
        app.teardown_request(self._end)  # Flask runs the last one first, so the span is still the current one

    def _start(self) -> None:
        g.http_started_ns = time.perf_counter_ns()
        self._active.labels(_method()).inc()

    def _answer(self, response: Response) -> Response:
        g.http_status = response.status_code
        ids = get_current_span().get_span_context()
        if ids.is_valid:
            response.headers["traceresponse"] = (
                f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"
            )
        return response

    def _end(self, error: BaseException | None) -> None:
        if "http_started_ns" not in g:
            return
        try:
            self._tell((time.perf_counter_ns() - g.pop("http_started_ns")) / 1e9, error)
        except Exception:
            self._failures.count("http")

    def _tell(self, duration_s: float, error: BaseException | None) -> None:
        method, status = _method(), g.get("http_status", SERVER_ERROR)
        route = request.url_rule.rule if request.url_rule else OTHER
        ids = get_current_span().get_span_context()
        trace_id, span_id = (f"{ids.trace_id:032x}", f"{ids.span_id:016x}") if ids.is_valid else ("", "")
        lead = exemplar(trace_id, span_id) if ids.trace_flags.sampled else None
        self._active.labels(method).dec()
        self._seconds.labels(method, route, str(status)).observe(duration_s, lead)
        if request.path not in QUIET_PATHS and request.endpoint != "static":
            fields: dict[str, Any] = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "duration_ms": round(duration_s * 1e3, 3),
            }
            level = "error" if status >= SERVER_ERROR or error else "info"
            self._stream.write(level, "http.server.request", trace_id, span_id, fields)


def _quiet_urls(app: Flask) -> list[str]:
    """Health, metrics and static files, as patterns of whole addresses: a query may not look like one."""
    static = [f"{app.static_url_path}/.*"] if app.has_static_folder else []
    return [rf"^\w+://[^/]+{path}(\?.*)?$" for path in (*QUIET_PATHS, *static)]


def _method() -> str:
    return request.method if request.method in METHODS else OTHER
