"""The Flask edge: a request is one record, from its arrival until its body has been sent or given up."""

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, got_request_exception, request, request_started
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, TracerProvider, get_current_span
from opentelemetry.util.http import ExcludeList, parse_excluded_urls
from werkzeug.wsgi import get_current_url

from observability.call import OTHER, Failure
from observability.flask_response import Response
from observability.flask_spans import Exchange, FlaskSpans, with_trace
from observability.journal import Journal
from observability.propagation import Callers
from observability.request import SERVER_ERROR, Endpoint, Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
MARK = "_is_instrumented_by_opentelemetry"  # what OpenTelemetry's instrumentation goes by itself
EXTENSION = "observability"

logger = logging.getLogger(__name__)


class HttpEdge:
    """Observes the requests of Flask applications.

    callers says whose traces are continued; excluded_urls are regular expressions, with commas between them:
    requests whose address matches one are counted, but neither traced nor logged.
    """

    def __init__(
        self,
        journal: Journal,
        tracer_provider: TracerProvider,
        callers: Callers,
        excluded_urls: str = "",
    ) -> None:
        self._journal = journal
        self._tracer_provider = tracer_provider
        self._callers = callers
        self._excluded_urls: ExcludeList | None = None
        try:
            if excluded_urls:
                self._excluded_urls = parse_excluded_urls(excluded_urls)
        except re.error as error:
            logger.warning(
                "OTEL_PYTHON_FLASK_EXCLUDED_URLS must be regular expressions, got %r (%s): none is used",
                excluded_urls,
                error,
            )

    def instrument(self, app: Flask) -> None:
        """Observe each request of the application; a second time does nothing."""
        observers: list[Journal] = app.extensions.setdefault(EXTENSION, [])
        if any(journal is self._journal for journal in observers):
            return
        observers.append(self._journal)
        spans = None
        if getattr(app, MARK, False):
            logger.warning(
                "%s is instrumented already, by OpenTelemetry or another Telemetry: that makes its spans", app
            )
        else:
            spans = FlaskSpans(self._tracer_provider, self._callers, _key(self._journal))
            setattr(app, MARK, True)
        app.wsgi_app = ObservedApp(app, self._journal, spans, self._excluded_urls)  # type: ignore[method-assign]


def _key(journal: Journal) -> str:
    """Where a request's environment has its exchange with this telemetry."""
    return f"observability.exchange.{id(journal)}"


class ObservedApp:
    """The application as the server sees it; spans is None where somebody else makes them.

    Flask's signals report the rest, whatever ends a request early: the first is sent before any hook runs.
    """

    def __init__(
        self, app: Flask, journal: Journal, spans: FlaskSpans | None, excluded_urls: ExcludeList | None
    ) -> None:
        self._wsgi_app = app.wsgi_app
        self._journal = journal
        self._spans = spans
        self._key = _key(journal)
        self._has_static = app.has_static_folder
        self._excluded_urls = excluded_urls
        request_started.connect(self._routed, app)
        got_request_exception.connect(self._failed, app)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request; one that comes from another application of ours is part of that one's."""
        response = None if self._key in environ else self._begin(environ, start_response)
        if response is None:
            return self._wsgi_app(environ, start_response)
        outside = otel_context.attach(otel_context.get_current())
        try:
            return response.carry(self._wsgi_app(environ, response.start))
        except BaseException as error:
            response.end(SERVER_ERROR, error)
            raise
        finally:
            environ.pop(self._key, None)
            otel_context.detach(outside)  # whatever was attached since, and by whom

    def _begin(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> "Response | None":
        record = None
        try:
            if not is_instrumentation_enabled():
                return None
            record = Request(self._journal, environ.get("REQUEST_METHOD", ""))
            exchange = Exchange(record, environ)
            response = Response(self, exchange, start_response)
            environ[self._key] = exchange
            return response
        except Exception:
            self.failed() if record is None else record.fail("http")
            return None

    def failed(self) -> None:
        """Count a failure of ours."""
        self._journal.tally.failure("http")

    def _routed(self, _app: Flask, **_: Any) -> None:
        """Flask has found the route, or has not, and runs nothing of the application yet."""
        exchange = request.environ.get(self._key)
        if exchange is None or exchange.is_routed:
            return
        try:
            exchange.is_routed = True
            route = request.url_rule.rule if request.url_rule is not None else OTHER
            is_static = self._has_static and request.endpoint == "static"
            self._know(exchange, route, is_quiet=is_static or self._is_quiet(exchange, request.path))
            if self._spans is not None and not exchange.record.endpoint.quiet:
                self._spans.start(exchange)
                otel_context.attach(exchange.context)  # until the request is answered
        except Exception:
            self.failed()

    def _failed(self, _app: Flask, exception: BaseException, **_: Any) -> None:
        """A view or a hook has raised, and Flask answers with an error page."""
        try:
            exchange = request.environ.get(self._key)
            if exchange is not None:
                exchange.record.error = Failure(exception)
        except Exception:
            self.failed()

    def span(self, exchange: Exchange) -> Span | None:
        """The request's span, made now if the application never had the request; None for a quiet one."""
        if not exchange.is_routed:
            exchange.is_routed = True
            self._know(exchange, OTHER, is_quiet=self._is_quiet(exchange, exchange.path))
        record = exchange.record
        if record.span is None and not record.endpoint.quiet:
            if self._spans is not None:
                self._spans.start_late(exchange)
            else:
                record.span = get_current_span()
                record.owns_span = False
                exchange.context = otel_context.get_current()
        return record.span

    def answered(self, exchange: Exchange, headers: Any) -> Any:
        """The response's headers, with the trace's id if there is one."""
        span = self.span(exchange)
        if span is None:
            return headers
        if self._spans is not None:
            self._spans.answered(exchange, headers)
        return with_trace(headers, span, exchange.context)

    def _is_quiet(self, exchange: Exchange, path: str) -> bool:
        if path in QUIET_PATHS:
            return True
        excluded = self._excluded_urls
        return excluded is not None and excluded.url_disabled(get_current_url(exchange.environ))

    def _know(self, exchange: Exchange, route: str, *, is_quiet: bool) -> None:
        record = exchange.record
        record.endpoint = Endpoint(record.method, route, quiet=is_quiet)
