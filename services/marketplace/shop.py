"""What a page needs to do its work."""

import threading
from dataclasses import dataclass, field

from flask import current_app

from services.marketplace.config import Settings
from services.marketplace.recommendations import Recommendations
from services.marketplace.store import Store


@dataclass(frozen=True)
class Shop:
    """The parts of the shop; draining is set when it is asked to stop."""

    settings: Settings
    store: Store
    recommendations: Recommendations
    draining: threading.Event = field(default_factory=threading.Event)


def current_shop() -> Shop:
    """The shop of the application that serves the request."""
    shop: Shop = current_app.extensions["shop"]
    return shop
