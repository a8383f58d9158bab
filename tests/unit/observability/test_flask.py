"""The Flask edge: a request is one span, one measurement and one line, whatever ends it, and in nobody's way."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from flask import Flask, Response, abort, request, send_file, stream_with_context
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.propagators import TraceResponsePropagator, set_global_response_propagator
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder

from observability.testing import MemoryTelemetry, eventually
from tests.e2e.processes import ROOT, free_ports, get

SECONDS = "http_server_request_duration_seconds"
PIECES = 3


class Web:
    """An observed application, the telemetry that observes it, and a client of it."""

    def __init__(self) -> None:
        self.telemetry = MemoryTelemetry("web")
        self.app = Flask(__name__)
        self.telemetry.instrument_flask(self.app)
        self.client = self.app.test_client()
        self.route = self.app.add_url_rule

    def one(self, code: int, route: str, method: str = "GET", errors: int = 0) -> Any:
        """The one request's span, once all signals agree on it and nothing is left of it."""
        (line,) = self.lines()
        (span,) = self.requests()
        assert (line["http.response.status_code"], line["http.route"]) == (code, route)
        assert span.attributes["http.response.status_code"] == code
        assert span.attributes.get("http.route", "_OTHER") == route
        labels = {"http_response_status_code": str(code), "http_route": route, "http_request_method": method}
        assert self.telemetry.value(f"{SECONDS}_count", **labels) == 1
        assert self.telemetry.value(f"{SECONDS}_count") == 1
        assert line["span_id"] == f"{span.context.span_id:016x}"
        seconds = (span.end_time - span.start_time) / 1e9
        assert self.telemetry.value(f"{SECONDS}_sum") == pytest.approx(seconds)
        assert line["duration_ms"] == pytest.approx(seconds * 1e3, abs=0.001)
        is_error = bool(errors) or code >= 500
        assert line["level"] == ("error" if is_error else "info")
        assert span.status.is_ok is not is_error
        assert [event.name for event in span.events] == ["exception"] * errors
        assert ("stack" in line) is bool(errors)
        self.clean()
        return span

    def clean(self) -> None:
        """No request is active, no span is current, and nothing of ours has failed."""
        assert self.telemetry.value("http_server_active_requests") == 0
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert self.telemetry.tally.counts().get(("telemetry_signal_failures", "http"), 0) == 0

    def lines(self) -> list[dict[str, Any]]:
        """The lines of requests."""
        return [line for line in self.telemetry.lines() if line["event"] == "http.server.request"]

    def requests(self) -> list[Any]:
        """The spans of requests."""
        return [span for span in self.telemetry.spans() if "http.request.method" in (span.attributes or {})]

    def span(self, name: str) -> Any:
        """The span of this name."""
        (span,) = [span for span in self.telemetry.spans() if span.name == name]
        return span

    @contextmanager
    def server(self) -> Iterator[tuple[str, int]]:
        """A server of the application, and its address."""
        server = make_server("127.0.0.1", 0, self.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "127.0.0.1", server.server_port
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def call(self, path: str, **extra: Any) -> tuple[Any, list[Any]]:
        """Call the application as a server does; the body, which the caller must close, and the start."""
        started: list[Any] = []

        def start(*args: Any, **_: Any) -> Callable[[bytes], None]:
            started.extend(args)
            return lambda _: None

        environ = EnvironBuilder(path).get_environ() | extra
        return self.app.wsgi_app(environ, start), started


@pytest.fixture
def web() -> Web:
    """An application with a page that works, one that breaks, and a quiet one."""
    made = Web()
    made.route("/books/<int:book_id>", "book", lambda book_id: f"book {book_id}")
    made.route("/broken", "broken", lambda: str(1 / 0))
    made.route("/livez", "livez", lambda: "ok")
    return made


def pieces(web: Web, fails_at: int = PIECES) -> Iterator[bytes]:
    """A body in pieces, each with its own span."""
    tracer = web.telemetry.tracer_provider.get_tracer("test")
    for number in range(PIECES):
        with tracer.start_as_current_span(f"piece {number}"):
            if number == fails_at:
                raise ValueError("no more pieces")
        yield b"piece "


def test_a_request_is_one_span_one_measurement_one_line(web: Web) -> None:
    """Span, histogram and line name the route and have the same duration; the answer carries the ids."""
    answer = web.client.get("/books/7")
    span = web.one(200, "/books/<int:book_id>")
    ids = f"{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
    assert answer.headers["traceresponse"] == f"00-{ids}"
    assert (span.name, span.kind) == ("GET /books/<int:book_id>", trace.SpanKind.SERVER)
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.flask"


def test_stable_names(web: Web) -> None:
    """A span has the stable convention's attributes and no others; the server's address holds no port."""
    headers = {"Host": "shop.test:8443", "User-Agent": "curl"}
    web.client.get("/books/7?page=2", headers=headers, base_url="https://shop.test:8443")
    assert web.one(200, "/books/<int:book_id>").attributes == {
        "client.address": "127.0.0.1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/books/<int:book_id>",
        "network.protocol.version": "1.1",
        "server.address": "shop.test",
        "server.port": 8443,
        "url.path": "/books/7",
        "url.query": "page=2",
        "url.scheme": "https",
        "user_agent.original": "curl",
    }


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [("[::1]:5000", "::1", 5000), ("[::1]", "::1", 80), ("shop", "shop", 80), ("shop:x", "shop:x", 80)],
)
def test_the_servers_address(web: Web, host: str, address: str, port: int) -> None:
    """A Host header is split into address and port, an IPv6 one too."""
    web.call("/books/7", HTTP_HOST=host)
    attributes = web.requests()[0].attributes
    assert (attributes["server.address"], attributes["server.port"]) == (address, port)


@pytest.mark.parametrize("choice", ["http", "http/dup"])
def test_the_users_choice_of_names(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SEMCONV_STABILITY_OPT_IN=http changes nothing, http/dup adds the old names."""
    from opentelemetry.instrumentation import _semconv

    stability = _semconv._OpenTelemetrySemanticConventionStability
    monkeypatch.setattr(stability, "_initialized", False)
    monkeypatch.setattr(stability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", choice)
    web = Web()
    web.client.get("/nowhere", headers={"Host": "shop:1"})
    attributes = web.one(404, "_OTHER").attributes
    assert (attributes["server.address"], attributes["server.port"]) == ("shop", 1)
    old = {key: attributes.get(key) for key in ("http.method", "http.status_code")}
    both = choice == "http/dup"
    assert old == {"http.method": "GET" if both else None, "http.status_code": 404 if both else None}


def test_headers_that_users_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instrumentation's variables for headers mean what they mean there."""
    prefix = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER"
    monkeypatch.setenv(f"{prefix}_REQUEST", "x-shelf")
    monkeypatch.setenv(f"{prefix}_RESPONSE", "content-type")
    web = Web()
    web.route("/", "home", lambda: "home")
    web.client.get("/", headers={"X-Shelf": "3"})
    attributes = web.one(200, "/").attributes
    assert attributes["http.request.header.x_shelf"] == ("3",)
    assert attributes["http.response.header.content_type"] == ("text/html; charset=utf-8",)


def test_a_response_propagator_has_its_way(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A propagator for responses that the user has set writes the header, once."""
    from opentelemetry.instrumentation import propagators

    monkeypatch.setattr(propagators, "_RESPONSE_PROPAGATOR", None)
    set_global_response_propagator(TraceResponsePropagator())
    answer = web.client.get("/books/7")
    assert len(answer.headers.getlist("traceresponse")) == 1
    assert answer.headers["Access-Control-Expose-Headers"] == "traceresponse"
    assert f"{web.one(200, '/books/<int:book_id>').context.trace_id:032x}" in answer.headers["traceresponse"]


def test_the_callers_trace_goes_on(web: Web) -> None:
    """A request with a traceparent is part of that trace."""
    web.client.get("/books/7", headers={"traceparent": f"00-{7:032x}-{8:016x}-01"})
    span = web.one(200, "/books/<int:book_id>")
    assert (span.context.trace_id, span.parent.span_id) == (7, 8)


def test_a_page_that_breaks(web: Web) -> None:
    """An uncaught exception is 500 and an error with its stack in all signals, once."""
    assert web.client.get("/broken").status_code == 500
    span = web.one(500, "/broken", errors=1)
    assert span.attributes["error.type"] == "ZeroDivisionError"
    assert "1 / 0" in web.lines()[0]["stack"]


def test_a_page_that_says_it_is_broken(web: Web) -> None:
    """A 5xx without an exception is an error, named by its code; a 4xx is the client's fault."""
    web.route("/busy", "busy", lambda: abort(503))
    web.client.get("/busy")
    assert web.one(503, "/busy").attributes["error.type"] == "503"


def test_unknown_addresses_and_methods_are_bounded(web: Web) -> None:
    """A path that no route has, and a method that HTTP does not have, are `_OTHER`; their spans have two names."""
    for path, method in (("/a", "GET"), ("/b", "GET"), ("/c", "BREW"), ("/books/7", "DELETE")):
        web.client.open(path, method=method)
    assert [span.name for span in web.requests()] == ["GET", "GET", "HTTP", "DELETE"]
    labels = {"http_route": "_OTHER", "http_request_method": "_OTHER"}
    assert web.telemetry.value(f"{SECONDS}_count", **labels) == 1
    assert web.requests()[2].attributes["http.request.method_original"] == "BREW"
    web.clean()


@pytest.mark.parametrize("path", ["/livez?x=1", "/static/none.css", "/private/1", "/metrics"])
def test_quiet_requests(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health, metrics, static files and what the variable excludes are counted, but neither traced nor logged."""
    monkeypatch.setenv("OTEL_PYTHON_FLASK_EXCLUDED_URLS", "nothing,priv.te/[0-9]")
    web = Web()
    answer = web.client.get(path)
    assert (web.telemetry.spans(), web.lines()) == ((), [])
    assert "traceresponse" not in answer.headers
    assert web.telemetry.value(f"{SECONDS}_count") == 1
    web.clean()


def test_excluded_urls_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An expression that is none is warned of, and is no reason not to start."""
    monkeypatch.setenv("OTEL_PYTHON_FLASK_EXCLUDED_URLS", "(")
    web = Web()
    web.client.get("/")
    web.one(404, "_OTHER")
    assert "OTEL_PYTHON_FLASK_EXCLUDED_URLS must be" in caplog.text


def test_a_query_does_not_make_a_page_quiet(web: Web) -> None:
    """Only the path says what is quiet."""
    web.client.get("/books/7?next=/livez")
    web.one(200, "/books/<int:book_id>")


def test_suppressed_instrumentation(web: Web) -> None:
    """Nothing is recorded where OpenTelemetry's instrumentation is suppressed."""
    with suppress_instrumentation():
        assert web.client.get("/books/7").text == "book 7"
    assert (web.telemetry.spans(), web.telemetry.value(f"{SECONDS}_count")) == ((), 0)


def test_a_stream_ends_when_it_has_been_sent(web: Web) -> None:
    """A streamed request is active while it streams, and spans inside its generator are the request's children."""
    web.route("/stream", "stream", lambda: Response(pieces(web)))
    body, _ = web.call("/stream")
    assert next(body) == b"piece "
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert web.telemetry.value("http_server_active_requests", http_request_method="GET") == 1
    assert web.lines() == []
    time.sleep(0.05)
    assert list(body) == [b"piece "] * (PIECES - 1)
    body.close()
    span = web.one(200, "/stream")
    assert web.lines()[0]["duration_ms"] >= 50
    for number in range(PIECES):
        assert web.span(f"piece {number}").parent.span_id == span.context.span_id


def test_a_stream_in_other_threads(web: Web) -> None:
    """Each piece may be taken by another thread: the request's span is current there, and not afterwards."""
    web.route("/stream", "stream", lambda: Response(pieces(web)))
    body, _ = web.call("/stream")
    current: list[Any] = []

    def take() -> None:
        next(body, None)
        current.append(trace.get_current_span())

    for _ in range(PIECES + 1):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    body.close()
    assert current == [trace.INVALID_SPAN] * (PIECES + 1)
    span = web.one(200, "/stream")
    assert web.span("piece 2").parent.span_id == span.context.span_id


def test_stream_with_context(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that keeps Flask's request is recorded as any other, and no context token is lost."""

    def paths() -> Iterator[str]:
        for _ in range(PIECES):
            yield request.path

    web.route("/stream", "stream", lambda: Response(stream_with_context(paths())))
    assert web.client.get("/stream").text == "/stream" * PIECES
    web.one(200, "/stream")
    assert caplog.text == ""


@pytest.mark.parametrize(("fails_at", "code"), [(0, 500), (1, 200)])
def test_a_stream_that_breaks(web: Web, fails_at: int, code: int) -> None:
    """An exception while the body is sent is an error; the status is what the client has seen by then."""
    web.route("/stream", "stream", lambda: Response(pieces(web, fails_at)))
    body, _ = web.call("/stream")
    with pytest.raises(ValueError, match="no more pieces"):
        list(body)
    body.close()
    assert web.one(code, "/stream", errors=1).attributes["error.type"] == "ValueError"


def test_a_close_that_breaks(web: Web) -> None:
    """An exception while the response is closed is an error, and reaches the server."""

    def page() -> Response:
        response = Response("page")
        response.call_on_close(lambda: 1 / 0)
        return response

    web.route("/", "home", page)
    body, _ = web.call("/")
    assert list(body) == [b"page"]
    with pytest.raises(ZeroDivisionError):
        body.close()
    web.one(200, "/", errors=1)


def test_the_response_is_closed_once(web: Web) -> None:
    """The application's body is closed when the server closes it, not before, and as often."""
    closed: list[str] = []

    def page() -> Response:
        response = Response(["a", "b"])
        response.call_on_close(lambda: closed.append("closed"))
        return response

    web.route("/", "home", page)
    body, _ = web.call("/")
    assert (list(body), closed) == ([b"a", b"b"], [])
    body.close()
    assert closed == ["closed"]
    web.one(200, "/")


def test_a_stream_that_is_given_up(web: Web) -> None:
    """A server that closes a response early ends the request, without an error."""
    web.route("/stream", "stream", lambda: Response(pieces(web)))
    body, _ = web.call("/stream")
    next(body)
    body.close()
    web.one(200, "/stream")


@pytest.mark.parametrize("takes", [0, 1, PIECES + 1])
def test_a_server_that_never_closes(web: Web, takes: int) -> None:
    """A response that the server drops without closing it has ended."""
    web.route("/stream", "stream", lambda: Response(pieces(web)))
    body, _ = web.call("/stream")
    for _ in range(takes):
        next(body, None)
    del body
    web.one(200, "/stream")


@pytest.mark.parametrize("page", ["/books/7", "/stream"])
def test_a_response_that_is_sent_but_never_closed(web: Web, page: str) -> None:
    """A response that is kept has ended for a flush as soon as all of it was sent, and with the time of that."""
    web.route("/stream", "stream", lambda: Response(pieces(web)))
    kept = web.client.get(page)
    assert kept.data
    time.sleep(0.1)
    (line,) = web.lines()
    assert line["duration_ms"] < 100
    assert web.telemetry.value("http_server_active_requests") == 0
    kept.close()
    assert len(web.lines()) == 1


def test_responses_that_are_kept_end_in_their_order(web: Web) -> None:
    """What a flush ends, it ends in the order of the requests."""
    kept = [web.client.get(f"/books/{number}") for number in range(20)]
    assert [span.attributes["url.path"] for span in web.requests()] == [
        answer.request.path for answer in kept
    ]


def test_an_environment_that_is_used_again(web: Web) -> None:
    """Each call of the application is a request, even with the environment of another."""
    environ = EnvironBuilder("/books/7").get_environ()
    for _ in range(2):
        assert b"".join(web.app.wsgi_app(environ, lambda *_: print)) == b"book 7"
    assert len(web.lines()) == len(web.requests()) == 2
    web.clean()


def test_a_client_that_goes_away(web: Web) -> None:
    """When the client leaves in the middle of a stream, the request ends, without an error."""
    web.route("/endless", "endless", lambda: Response(iter(lambda: b"x" * 65536, None)))
    with web.server() as address:
        with socket.create_connection(address) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: shop\r\n\r\n")
            connection.recv(100)
            assert web.telemetry.value("http_server_active_requests") == 1
        eventually(web.lines)
    web.one(200, "/endless")


@pytest.mark.parametrize(
    ("method", "path", "headers", "code", "size"),
    [
        ("GET", "/books/7", {}, 200, 6),
        ("HEAD", "/books/7", {}, 200, 0),
        ("GET", "/file", {}, 200, 200_000),
        ("GET", "/file", {"Range": "bytes=10-19"}, 206, 10),
        ("GET", "/file", {"If-None-Match": '"7"'}, 304, 0),
        ("GET", "/broken", {}, 500, None),
        ("GET", "/stream", {}, 200, 18),
    ],
)
def test_over_the_wire(
    web: Web, tmp_path: Path, method: str, path: str, headers: dict[str, str], code: int, size: int | None
) -> None:
    """Pages, HEAD, files, ranges, 304 and streams on a real server: what the client saw, recorded once."""
    (tmp_path / "file").write_bytes(b"x" * 200_000)
    web.route("/file", "file", lambda: send_file(tmp_path / "file", mimetype="text/plain", etag="7"))
    web.route("/stream", "stream", lambda: Response(pieces(web)))
    with web.server() as address:
        connection = http.client.HTTPConnection(*address, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
    assert response.status == code
    assert size is None or len(body) == size
    eventually(web.lines)
    rule = "/books/<int:book_id>" if path.startswith("/books") else path
    span = web.one(code, rule, method, errors=int(code == 500))
    assert response.headers["traceresponse"].split("-")[2] == f"{span.context.span_id:016x}"


def test_a_file_wrapper_of_the_servers_stays_one(web: Web, tmp_path: Path) -> None:
    """The server is given its own wrapper back, which it may send in a faster way; the request ends at its close."""
    (tmp_path / "file").write_bytes(b"content")
    web.route("/file", "file", lambda: send_file(tmp_path / "file", mimetype="text/plain"))
    body, _ = web.call("/file", **{"wsgi.file_wrapper": FileWrapper})
    assert type(body) is FileWrapper
    assert body.filelike.read() == b"content"
    assert web.lines() == []
    body.close()
    assert body.filelike.closed
    web.one(200, "/file")


def test_a_file_wrapper_that_cannot_be_watched(web: Web, tmp_path: Path) -> None:
    """A wrapper that takes no attributes is sent piece by piece."""

    class Fixed:
        __slots__ = ("_file",)

        def __init__(self, file: Any, size: int = 8192) -> None:
            self._file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._file)

        def close(self) -> None:
            self._file.close()

    (tmp_path / "file").write_bytes(b"content")
    web.route("/file", "file", lambda: send_file(tmp_path / "file", mimetype="text/plain"))
    body, _ = web.call("/file", **{"wsgi.file_wrapper": Fixed})
    assert b"".join(body) == b"content"
    body.close()
    web.one(200, "/file")


def test_start_response_and_write(web: Web) -> None:
    """A WSGI application that is mounted may use write() and exc_info, and start while its body is sent."""

    def plain(_: Any, start: Any) -> Iterator[bytes]:
        write = start("200 OK", [("X", "1")])
        write(b"written")
        start("418 Teapot", [("X", "2")], None)
        yield b"yielded"

    app = Flask("mounts")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/plain": plain})  # type: ignore[method-assign]
    web.telemetry.instrument_flask(app)
    seen: list[Any] = []

    def start(*args: Any) -> Callable[[bytes], None]:
        seen.append(args)
        return seen.append

    body = app.wsgi_app(EnvironBuilder("/plain").get_environ(), start)
    assert list(body) == [b"yielded"]
    body.close()  # type: ignore[attr-defined]
    assert [seen[0][0], seen[1], seen[2][0], seen[2][2]] == ["200 OK", b"written", "418 Teapot", None]
    assert web.one(418, "_OTHER").attributes["url.path"] == "/plain"


def breaks(*_: Any) -> Any:
    """A hook that raises."""
    return 1 / 0


HOOKS: dict[str, tuple[Callable[[Flask], Any], int, int]] = {
    "before_request returns": (lambda app: app.before_request(lambda: ("no", 403)), 403, 0),
    "before_request aborts": (lambda app: app.before_request(lambda: abort(401)), 401, 0),
    "before_request raises": (lambda app: app.before_request(breaks), 500, 1),
    "url_value_preprocessor raises": (lambda app: app.url_value_preprocessor(breaks), 500, 1),
    "url_value_preprocessor aborts": (lambda app: app.url_value_preprocessor(lambda *_: abort(400)), 400, 0),
    "after_request raises": (lambda app: app.after_request(breaks), 500, 1),
}


@pytest.mark.parametrize("is_first", [True, False], ids=["before ours", "after ours"])
@pytest.mark.parametrize("name", HOOKS)
def test_hooks_that_end_a_request(name: str, is_first: bool) -> None:
    """A hook that ends a request early, added before or after ours, is recorded once with what the client saw."""
    add, code, errors = HOOKS[name]
    app = Flask("early")
    web = Web()
    if is_first:
        add(app)
    web.telemetry.instrument_flask(app)
    if not is_first:
        add(app)
    app.add_url_rule("/", "home", lambda: "home")
    answer = app.test_client().get("/", headers={"traceparent": f"00-{7:032x}-{8:016x}-01"})
    assert answer.status_code == code
    span = web.one(code, "/", errors=errors)
    assert (span.name, span.parent.span_id) == ("GET /", 8)
    assert f"{span.context.span_id:016x}" in answer.headers["traceresponse"]


def test_spans_of_hooks(web: Web) -> None:
    """A span that a hook makes, which was there before ours, is the request's child."""
    app = Flask("hooks")
    tracer = web.telemetry.tracer_provider.get_tracer("test")
    app.before_request(lambda: tracer.start_span("hook").end())
    web.telemetry.instrument_flask(app)
    app.test_client().get("/")
    assert web.span("hook").parent.span_id == web.one(404, "_OTHER").context.span_id


def test_a_teardown_that_raises(web: Web) -> None:
    """An exception after the response is made escapes to the server, whose client sees 500."""
    web.app.teardown_request(breaks)
    with web.server() as address:
        connection = http.client.HTTPConnection(*address, timeout=10)
        connection.request("GET", "/books/7")
        assert connection.getresponse().status == 500
        connection.close()
    web.one(500, "/books/<int:book_id>", errors=1)


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_that_escapes(web: Web, kind: type[BaseException]) -> None:
    """What Flask lets through reaches the server unchanged, and is one exception on the span."""

    def page() -> str:
        raise kind

    web.route("/", "home", page)
    web.app.testing = True
    with pytest.raises(kind):
        web.client.get("/")
    web.one(500, "/", errors=1)


def test_a_host_that_flask_does_not_trust(web: Web) -> None:
    """A request that Flask refuses because of its Host is answered as without us, and recorded."""
    web.app.config["TRUSTED_HOSTS"] = ["shop.test"]
    assert web.client.get("/books/7", headers={"Host": "evil.test"}).status_code == 400
    web.one(400, "_OTHER")


MOUNTS = {"both": (True, True), "inner": (False, True), "outer": (True, False)}


@pytest.mark.parametrize("name", MOUNTS)
@pytest.mark.parametrize(("path", "code"), [("/api/refused", 403), ("/api/nowhere", 404)])
def test_an_application_in_an_application(
    name: str, path: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that comes to a mounted application is one request, whichever of the two are observed."""
    web = Web()
    outer, inner = Flask("outer"), Flask("inner")
    inner.add_url_rule("/refused", "refused", lambda: abort(code))
    is_outer, is_inner = MOUNTS[name]
    if is_inner:
        web.telemetry.instrument_flask(inner)
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/api": inner})  # type: ignore[method-assign]
    if is_outer:
        web.telemetry.instrument_flask(outer)
    answer = outer.test_client().get(path)
    assert answer.status_code == code
    span = web.one(code, "/refused" if is_inner and code == 403 else "_OTHER")
    assert (span.attributes["url.path"], span.kind) == (path, trace.SpanKind.SERVER)
    assert f"{span.context.span_id:016x}" in answer.headers["traceresponse"]
    assert caplog.text == ""


def test_metrics_that_are_mounted(web: Web) -> None:
    """What is mounted at a quiet path is quiet."""
    app = Flask("outer")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": web.app})  # type: ignore[method-assign]
    telemetry = MemoryTelemetry()
    telemetry.instrument_flask(app)
    app.test_client().get("/metrics")
    assert (telemetry.spans(), telemetry.value(f"{SECONDS}_count", http_route="_OTHER")) == ((), 1)


def test_a_view_that_answers_with_an_application(web: Web) -> None:
    """A view may return a WSGI application, observed or not: the route is the outer one's."""
    inner = Flask("inner")
    inner.add_url_rule("/x", "any", lambda: "inner")
    web.telemetry.instrument_flask(inner)
    web.route("/<path:_>", "outer", lambda _: inner)
    assert web.client.get("/x").text == "inner"
    web.one(200, "/<path:_>")


def test_a_request_within_a_request(web: Web) -> None:
    """A view that calls the application itself makes two requests, one the other's child."""
    web.route("/outer", "outer", lambda: web.client.get("/broken").status)
    assert web.client.get("/outer").text == "500 INTERNAL SERVER ERROR"
    outer, inner = web.span("GET /outer"), web.span("GET /broken")
    assert (inner.parent.span_id, outer.parent) == (outer.context.span_id, None)
    assert sorted(line["http.response.status_code"] for line in web.lines()) == [200, 500]
    web.clean()


def test_a_context_that_a_view_leaves(web: Web) -> None:
    """A context that a view attaches and never detaches ends with the request."""

    def page() -> str:
        web.telemetry.tracer_provider.get_tracer("test").start_as_current_span("lost").__enter__()
        return "page"

    web.route("/", "home", page)
    web.client.get("/")
    web.one(200, "/")


def test_the_span_is_the_sdks(web: Web) -> None:
    """A view may do with the current span what it can do with any span of the SDK's."""

    def page() -> str:
        span = trace.get_current_span()
        span.update_name("home")
        span.set_attribute("shelf", 3)
        span.add_event("seen")
        return str(span.attributes["http.route"])  # type: ignore[attr-defined]

    web.route("/", "home", page)
    assert web.client.get("/").text == "/"
    span = web.span("home")
    assert (span.attributes["shelf"], [event.name for event in span.events]) == (3, ["seen"])


def test_instrumenting_twice(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """A second time changes nothing."""
    web.telemetry.instrument_flask(web.app)
    web.client.get("/books/7")
    web.one(200, "/books/<int:book_id>")
    assert caplog.text == ""


def test_two_telemetries_on_one_application(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """Both count and log each request; the span is the first one's, and the second says so once."""
    second = MemoryTelemetry("second")
    second.instrument_flask(web.app)
    answer = web.client.get("/books/7")
    span = web.one(200, "/books/<int:book_id>")
    assert second.lines()[0]["span_id"] == f"{span.context.span_id:016x}"
    assert (second.spans(), second.value(f"{SECONDS}_count")) == ((), 1)
    assert len(answer.headers.getlist("traceresponse")) == 1
    assert caplog.text.count("is instrumented already") == 1


@pytest.mark.parametrize("is_first", [True, False], ids=["before us", "after us"])
def test_an_application_that_opentelemetry_instruments(
    is_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside the user's own FlaskInstrumentor there is one span: of whoever came first."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = Flask("theirs")
    app.add_url_rule("/", "home", lambda: "home")
    telemetry = MemoryTelemetry()
    if is_first:
        FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    telemetry.instrument_flask(app)
    if not is_first:
        FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    answer = app.test_client().get("/")
    spans = (*telemetry.spans(), *exporter.get_finished_spans())
    (line,) = telemetry.lines()
    assert [f"{span.context.span_id:016x}" for span in spans] == [line["span_id"]]
    assert line["span_id"] in answer.headers["traceresponse"]
    assert len(exporter.get_finished_spans()) == is_first
    assert "already" in caplog.text
    assert trace.get_current_span() is trace.INVALID_SPAN


def fails(*_: Any, **__: Any) -> Any:
    """A failure of ours."""
    raise RuntimeError("ours")


ENTRIES = {
    "the record": "observability.flask.Request.__init__",
    "the exchange": "observability.flask.Exchange.__init__",
    "the route": "observability.flask.Endpoint.__init__",
    "the instrumentation": "observability.flask_spans.FlaskSpans.start",
    "the span": "observability.flask_spans.FlaskTracer.start",
    "the headers": "observability.flask.with_trace",
    "the error": "observability.flask.Failure.__init__",
    "the body": "observability.request.Request.sent",
    "the end": "observability.request.Request.end",
    "the metrics": "observability.signals.metrics.RequestMetrics.fold",
    "the log": "observability.signals.logs._request",
    "the tracing": "observability.signals.tracing._request",
}


@pytest.mark.parametrize("page", ["/books/7", "/stream", "/broken"])
@pytest.mark.parametrize("name", ENTRIES)
def test_a_failure_of_ours(web: Web, name: str, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of ours fails, the client sees the same page, the failure is counted, and no request stays active."""
    web.route("/stream", "stream", lambda: Response(pieces(web)))
    expected = web.client.get(page)
    assert expected.data
    web.telemetry.force_flush()
    monkeypatch.setattr(ENTRIES[name], fails)
    answer = web.client.get(page)
    assert (answer.status, answer.data) == (expected.status, expected.data)
    assert set(answer.headers.keys()) <= set(expected.headers.keys())
    answer.close()
    assert web.telemetry.value("http_server_active_requests") == 0
    assert trace.get_current_span() is trace.INVALID_SPAN
    failures = web.telemetry.value("telemetry_signal_failures_total")
    assert (failures > 0) is (name != "the error" or page == "/broken")


def test_an_environment_that_is_poor(web: Web) -> None:
    """An environment that lacks half of what WSGI promises is answered as Flask answers it."""
    body, _ = web.call("/books/7", SERVER_PORT="", HTTP_HOST="", SCRIPT_NAME="")
    assert b"".join(body) == b"book 7"
    body.close()
    web.one(200, "/books/<int:book_id>")


def test_an_application_can_be_forgotten() -> None:
    """Observing an application keeps nothing of it alive."""
    import gc
    import weakref

    telemetry = MemoryTelemetry()
    app = Flask("short")
    telemetry.instrument_flask(app)
    app.test_client().get("/")
    telemetry.force_flush()
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


RELOADED = """
import os
from flask import Flask
from observability import Telemetry
app = Flask("reloaded")
app.add_url_rule("/", view_func=lambda: str(os.getpid()))
telemetry = Telemetry("reloaded")
telemetry.instrument_flask(app)
telemetry.serve_metrics({port})
"""


@pytest.mark.parametrize("options", [["--debug"], ["--debug", "--no-reload"], ["--reload"]], ids=" ".join)
def test_the_development_server(options: list[str], tmp_path: Path) -> None:
    """`flask run` serves metrics where it serves pages, with its reloader or without, and after a reload."""
    port, metrics_port = free_ports(2)
    program = tmp_path / "reloaded.py"
    program.write_text(RELOADED.format(port=metrics_port))
    command = [sys.executable, "-m", "flask", "--app", str(program), "run", "--port", str(port), *options]
    variables = {"OTEL_TRACES_EXPORTER": "none", "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
        )
    try:
        serving = eventually(lambda: page(port), 30)
        eventually(lambda: f'{SECONDS}_count{{http_request_method="GET"' in page(metrics_port))
        if "--no-reload" not in options:
            program.write_text(program.read_text() + "\n")
            eventually(lambda: page(port) not in {"", serving}, 30)
            eventually(lambda: f'{SECONDS}_count{{http_request_method="GET"' in page(metrics_port))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def page(port: int) -> str:
    """What is there; nothing while nobody listens."""
    with suppress(OSError):
        return get(f"http://127.0.0.1:{port}/")[1]
    return ""
