"""The spans of HTTP requests: OpenTelemetry's instrumentation of Flask describes them, in stable names here.

Convention: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import request
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.propagators import get_global_response_propagator
from opentelemetry.instrumentation.wsgi import (
    collect_custom_request_headers_attributes,
    collect_custom_response_headers_attributes,
    collect_request_attributes,
    default_response_propagation_setter,
    wsgi_getter,
)
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagate import extract
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    NoOpTracer,
    NoOpTracerProvider,
    Span,
    SpanKind,
    Tracer,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.http import (
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE,
)
from werkzeug.exceptions import HTTPException

from observability.call import OTHER
from observability.propagation import Bounded, Callers, joined, shown
from observability.request import Request
from observability.signals.spans import SCHEMA_URL

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HEADERS = Bounded(wsgi_getter)
STABLE_NAMES = {
    "http.method": "http.request.method",
    "http.scheme": "url.scheme",
    "http.flavor": "network.protocol.version",
    "http.user_agent": "user_agent.original",
    "net.host.name": "server.address",
    "net.host.port": "server.port",
    "net.peer.ip": "client.address",
    "net.peer.port": "client.port",
    "net.peer.name": "client.address",
}
OLD_NAMES = frozenset(
    {"http.host", "http.server_name", "http.target", "http.url"}
)  # others have their content


class Exchange:
    """One request and its response: the record, and the context that the application's code runs in."""

    __slots__ = ("context", "environ", "has_old_names", "is_routed", "record")

    def __init__(self, record: Request, environ: "WSGIEnvironment") -> None:
        self.record = record
        self.environ = environ
        self.context = otel_context.get_current()
        self.is_routed = False
        self.has_old_names = False

    @property
    def path(self) -> str:
        """The path that was asked for."""
        path: str = self.environ.get("SCRIPT_NAME", "") + self.environ.get("PATH_INFO", "")
        return path.encode("latin-1").decode(errors="replace")  # WSGI's text is bytes in disguise


class FlaskSpans:
    """Starts the spans of one application, as OpenTelemetry's instrumentation asks for them.

    It stands for the application there, and so is given the hooks. In the application they would come too
    late or never when another hook ends a request, would raise into requests, and may leave a span current.
    """

    def __init__(self, provider: TracerProvider, callers: Callers, key: str) -> None:
        self.wsgi_app: Any = None
        self._describe: Callable[[], None]
        self._leave: Callable[[BaseException | None], None]
        self._tracer = FlaskTracer(provider, callers, key)
        FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
            self,
            tracer_provider=self._tracer,
            meter_provider=NoOpMeterProvider(),
            excluded_urls="",
            enable_commenter=False,
        )
        self._shows_headers = OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE in os.environ

    def before_request(self, hook: Callable[[], None]) -> None:
        """Take the hook that starts a span and makes it current."""
        self._describe = hook

    def teardown_request(self, hook: Callable[[BaseException | None], None]) -> None:
        """Take the hook that undoes it."""
        self._leave = hook

    def start(self, exchange: Exchange) -> None:
        """Start the span of Flask's current request."""
        exchange.context = otel_context.get_current()
        # The instrumentation reads the headers itself, without bounds, unless it finds a span.
        found = set_span_in_context(NonRecordingSpan(INVALID_SPAN_CONTEXT), exchange.context)
        token = otel_context.attach(found)
        try:
            with suppress(HTTPException):  # it looks at the address, whose host Flask may not trust
                self._describe()
                self._leave(None)
        finally:
            otel_context.detach(token)

    def start_late(self, exchange: Exchange) -> None:
        """Start the span of a request that has not come to the application."""
        self._tracer.start(exchange, exchange.record.method, collect_request_attributes(exchange.environ))

    def answered(self, exchange: Exchange, headers: Any) -> None:
        """Put on the span what is known of the response, but for its status, which the record has."""
        span = exchange.record.span
        if span is None or not span.is_recording():
            return
        if exchange.has_old_names:
            span.set_attribute("http.status_code", exchange.record.code)
        if self._shows_headers:
            span.set_attributes(collect_custom_response_headers_attributes(headers))


class FlaskTracer(NoOpTracerProvider, NoOpTracer):
    """The tracer that the instrumentation is given: what it gets is not the span, but one that it may end."""

    def __init__(self, provider: TracerProvider, callers: Callers, key: str) -> None:
        self._callers = callers
        self._provider = provider
        self._key = key
        self._tracer: Tracer
        self._shows_headers = OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST in os.environ

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,  # noqa: ARG002
        attributes: Any = None,
    ) -> Tracer:
        """Itself, which starts spans by the tracer of this name, with the schema of the names used here."""
        self._tracer = self._provider.get_tracer(
            instrumenting_module_name, instrumenting_library_version, SCHEMA_URL, attributes
        )
        return self

    def start_span(
        self,
        name: str,
        context: Context | None = None,  # noqa: ARG002 (start knows it better)
        kind: SpanKind = SpanKind.INTERNAL,  # noqa: ARG002
        attributes: Any = None,
        *_: Any,
        **__: Any,
    ) -> Span:
        """Start the span of Flask's current request."""
        span = self.start(request.environ[self._key], name, attributes)
        return NonRecordingSpan(span.get_span_context())

    def start(self, exchange: Exchange, name: str, attributes: Mapping[str, Any]) -> Span:
        """Start the span of a request, from when it came."""
        record = exchange.record
        if record.endpoint.route == OTHER:  # the instrumentation has a name for every path that is made up
            name = record.method if record.method != OTHER else "HTTP"
        exchange.has_old_names = "http.method" in attributes and "http.request.method" in attributes
        attributes = _stable(attributes) | _from_request(exchange)
        if self._shows_headers:
            attributes |= collect_custom_request_headers_attributes(exchange.environ)
        attributes = {key: shown(value) for key, value in attributes.items()}
        context, kind = exchange.context, SpanKind.INTERNAL
        links: Sequence[Link] = ()
        if get_current_span(context) is INVALID_SPAN:
            context, links = self._joined(exchange)
            kind = SpanKind.SERVER
        record.span = self._tracer.start_span(name, context, kind, attributes, links, record.started_ns)
        exchange.context = set_span_in_context(record.span, context)
        return record.span

    def _joined(self, exchange: Exchange) -> tuple[Context, Sequence[Link]]:
        """What the request's span starts in, by the caller's headers, and what it is linked to."""
        extracted = extract(exchange.environ, exchange.context, HEADERS)
        is_trusted = self._callers.are_trusted(exchange.record)
        return joined(extracted, exchange.context, is_trusted=is_trusted)


def with_trace(headers: Any, span: Span, context: Context) -> Any:
    """The headers and the span's ids, unless they are there; a propagator that is set has its way."""
    ids = span.get_span_context()
    if not ids.is_valid or any(key.lower() == "traceresponse" for key, _ in headers):
        return headers
    headers = list(headers)
    propagator = get_global_response_propagator()  # type: ignore[no-untyped-call]
    if propagator is None:
        ids_text = f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"
        headers.append(("traceresponse", ids_text))
    else:
        propagator.inject(headers, context, default_response_propagation_setter)
    return headers


def _stable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes in stable names; as they are where OTEL_SEMCONV_STABILITY_OPT_IN has asked for those."""
    if "http.request.method" in attributes:
        return dict(attributes)
    return {STABLE_NAMES.get(key, key): value for key, value in attributes.items() if key not in OLD_NAMES}


def _from_request(exchange: Exchange) -> dict[str, Any]:
    """What the instrumentation has wrong or not at all."""
    environ, record = exchange.environ, exchange.record
    attributes = {"http.request.method": record.method, "url.path": exchange.path}
    if record.method == OTHER:
        attributes["http.request.method_original"] = environ.get("REQUEST_METHOD", "")
    if query := environ.get("QUERY_STRING"):
        attributes["url.query"] = query
    if host := environ.get("HTTP_HOST"):
        attributes |= _server(host)
    return attributes


def _server(host: str) -> dict[str, Any]:
    """Address and port of a Host header, such as "[::1]:5000"; the instrumentation makes one of both."""
    address, _, port = host.rpartition(":")
    if not (address and port.isdecimal()):
        return {"server.address": host.strip("[]")}
    return {"server.address": address.strip("[]"), "server.port": int(port)}
