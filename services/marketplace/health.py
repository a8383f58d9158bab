"""Whether the shop is alive, and whether it can serve pages."""

from flask import Blueprint, Response, current_app, jsonify
from opentelemetry.instrumentation.utils import suppress_instrumentation

from services.marketplace.shop import current_shop
from services.marketplace.store import Unavailable

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> Response:
    """The process answers."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Pages can be served; without recommendations they can, too."""
    shop = current_shop()
    recommendations = shop.recommendations
    body = {
        "database": "ok",
        "recommendations": recommendations.channel.state.lower(),
        "circuit": "open" if recommendations.circuit.is_open else "closed",
    }
    try:
        with suppress_instrumentation():  # as quiet as the request itself
            shop.store.ping()
    except Unavailable as error:
        current_app.logger.warning("not ready, the database fails: %s", error.reason)
        body["database"] = "failed"
    if shop.draining.is_set():
        body["draining"] = "yes"
    ready = body["database"] == "ok" and "draining" not in body
    return jsonify(status="ready" if ready else "not ready", **body), 200 if ready else 503
