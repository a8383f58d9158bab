"""The pages: the latest traces, one trace, the methods. All is rendered here, without a script."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, abort, render_template, request
from werkzeug.exceptions import HTTPException, SecurityError

from tools.run.page.kept import Kept, Trace, calls
from tools.run.page.lines import lines
from tools.run.page.methods import Recent
from tools.run.traces import Span
from tools.run.why import Usual, why

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
        reasons = why(found.spans, _usual(recent))
        return render_template("trace.html", trace=found, why=reasons, lines=lines(found.root.trace_id, logs))

    @app.get("/trace/<trace_id>/why")
    def words(trace_id: str) -> Response:
        """Why it was slow or failed, as text."""
        return Response(f"{why(_of(kept, trace_id).spans, _usual(recent))}\n", mimetype="text/plain")

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


def _usual(recent: Recent) -> Callable[[Span], Usual | None]:
    methods = {(method.service, method.side, method.name): method for method in recent.methods()}

    def of(span: Span) -> Usual | None:
        method = methods.get((span.service, span.kind, span.name))
        return Usual(method.count, method.quantile_ms(0.5), method.quantile_ms(0.95)) if method else None

    return of


def _matches(trace: Trace) -> bool:
    service, status = request.args.get("service"), request.args.get("status")
    return (
        (not service or service in trace.services)
        and (not status or (trace.failed if status == ERRORS else status in trace.statuses))
        and trace.milliseconds >= request.args.get("slow", 0.0, float)
    )


def _clock(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
