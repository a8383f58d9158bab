"""The page of `make run`: the latest traces, one trace, the methods; without a script."""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, abort, render_template, request
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.serving import WSGIRequestHandler, make_server

from tools.scrape import Endpoint
from tools.traces.kept import Kept
from tools.traces.lines import of_files
from tools.traces.methods import Recent, calls
from tools.traces.trace import Trace
from tools.traces.usual import usual_of
from tools.traces.why import report, why

SHOWN = 100
ERRORS = "errors"
NOT_HERE = (
    "This trace is not here. One that has just ended arrives within a second: reload the page. "
    "The oldest traces go when there is no room."
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """Serves, on its own threads, until it is closed. The port must be free.

    metrics has each service's /metrics, logs the files of log lines; shop is the address of the shop.
    """

    def __init__(
        self,
        kept: Kept,
        host: str,
        port: int,
        metrics: Mapping[str, Endpoint],
        logs: Sequence[Path],
        shop: str,
    ) -> None:
        self._recent = Recent(metrics)
        app = create_app(kept, self._recent, logs, shop)
        self._server = make_server(host, port, app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._recent.close()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Print nothing: the terminal is for the traces."""


def create_app(kept: Kept, recent: Recent, logs: Sequence[Path], shop: str) -> Flask:
    """The application; shop is the address of the shop. It answers to the names of this machine alone."""
    app = Flask(__name__)
    # A page of the internet may be led to name this address as its own.
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    app.jinja_env.filters["clock"] = _clock
    app.jinja_env.globals["shop"] = shop

    @app.get("/")
    def latest() -> str:
        """The latest traces that match the form."""
        everything = kept.all()
        found = [trace for trace in everything if _matches(trace)]
        return render_template(
            "latest.html",
            traces=found[:SHOWN],
            found=len(found),
            everything=len(everything),
            services=sorted({service for trace in everything for service in trace.services}),
            statuses=sorted({status for trace in everything for status in trace.statuses}),
        )

    @app.get("/trace/<trace_id>")
    def trace(trace_id: str) -> str:
        """One trace, its spans and its log lines."""
        found = _of(kept, trace_id)
        reasons = why(found.spans, usual_of(recent.methods()))
        said = of_files(found.root.trace_id, logs)
        return render_template("trace.html", trace=found, why=reasons, lines=said)

    @app.get("/trace/<trace_id>/why")
    def words(trace_id: str) -> Response:
        """The same as text: why it was slow or failed, and its log lines."""
        found = _of(kept, trace_id)
        reasons = why(found.spans, usual_of(recent.methods()))
        return Response(report(reasons, of_files(found.root.trace_id, logs)), mimetype="text/plain")

    @app.get("/methods")
    def methods() -> str:
        """Rate, errors and durations of each method, and who calls whom."""
        return render_template("methods.html", methods=recent.methods(), calls=calls(kept.all()))

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(SecurityError)
    def foreign(error: SecurityError) -> HTTPException:
        return error  # a page needs addresses, and for an unknown name there are none

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[str, int]:
        return render_template("error.html", error=error), error.code or 500

    return app


def _of(kept: Kept, trace_id: str) -> Trace:
    return kept.get(trace_id.lower()) or abort(404, NOT_HERE)


def _matches(trace: Trace) -> bool:
    service, status = request.args.get("service"), request.args.get("status")
    return (
        (not service or service in trace.services)
        and (not status or (trace.failed if status == ERRORS else status in trace.statuses))
        and trace.milliseconds >= request.args.get("slow", 0.0, float)
    )


def _clock(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
