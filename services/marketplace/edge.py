"""What each response carries, whatever page it is: security headers, timing, and what templates may use."""

import hashlib
import time
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request, url_for
from opentelemetry.trace import get_current_span

from services.feed import Category
from services.marketplace.front.connection import ARRIVED
from services.marketplace.shop import current_shop

STATIC = Path(__file__).parent / "static"
YEAR_S = 365 * 24 * 3600
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def install(app: Flask) -> None:
    """Add it to the application."""
    app.before_request(_start)
    app.after_request(_finish)
    app.context_processor(_words)


def _start() -> None:
    g.started_s = request.environ.get(ARRIVED, time.perf_counter())  # waiting is part of it


def _finish(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.is_secure:  # over plain http, browsers must ignore it (RFC 6797)
        response.headers["Strict-Transport-Security"] = f"max-age={current_shop().settings.hsts_s}"
    timing = f"total;dur={(time.perf_counter() - g.started_s) * 1e3:.1f}"
    if "recommendations_s" in g:
        timing += f", recommendations;dur={g.recommendations_s * 1e3:.1f}"
    response.headers["Server-Timing"] = timing
    if request.endpoint == "static":
        response.cache_control.max_age = YEAR_S  # the address changes with the content
        response.cache_control.immutable = True
    else:
        response.cache_control.no_store = True
    return response


def _words() -> dict[str, Any]:
    ids = get_current_span().get_span_context()
    trace_id = f"{ids.trace_id:032x}" if ids.is_valid else ""
    return {"categories": list(Category), "trace_id": trace_id, "static": _static, **_links(trace_id)}


def _links(trace_id: str) -> dict[str, str]:
    """Where the trace and its lines are; empty without a trace, or if nobody has said where to look."""
    settings = current_shop().settings
    jaeger, logs = (str(url or "").rstrip("/") for url in (settings.jaeger_ui_url, settings.logs_ui_url))
    lines = f"{logs}/select/vmui/#/?query=trace_id:{trace_id}&g0.relative_time=last_2_days"
    return {
        "trace_url": f"{jaeger}/trace/{trace_id}" if jaeger and trace_id else "",
        "lines_url": lines if logs and trace_id else "",
    }


def _static(name: str) -> str:
    return url_for("static", filename=name, v=_digest(name))


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:8]
