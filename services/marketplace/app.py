"""The Flask application: the path of a request, from top to bottom."""

from flask import Flask

from observability import Telemetry
from services.faults.switch import Switch
from services.marketplace import edge, faults, health
from services.marketplace.front import hosts, proxies
from services.marketplace.pages import book, books, errors, home
from services.marketplace.shop import Shop


def create_app(shop: Shop, telemetry: Telemetry, switch: Switch | None = None) -> Flask:
    """The shop's application. The telemetry is first in and last out, and sees clients, not proxies; faults
    need a switch."""
    app = Flask(__name__)
    app.json.compact = True  # type: ignore[attr-defined]
    app.extensions["shop"] = shop
    hosts.install(app, shop.settings.hosts)
    telemetry.instrument_flask(app)  # around all that is there by now
    proxies.install(app, shop.settings.proxies)
    edge.install(app)
    for part in (health, home, books, book):
        app.register_blueprint(part.blueprint)
    errors.install(app)
    if switch:
        faults.install(app, switch, shop.settings.marketplace_threads)
    return app
