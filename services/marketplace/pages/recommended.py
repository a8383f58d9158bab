"""Recommendations on a page, or the fact that there are none now."""

import time

from flask import current_app, g

from services.marketplace.recommendations import Recommendation, Unavailable
from services.marketplace.shop import current_shop

COUNT = 3


def recommended(category: int) -> list[Recommendation] | None:
    """Three books of the category; None when they cannot be had now. Raises UnknownCategory."""
    started = time.perf_counter()
    try:
        return current_shop().recommendations.recommend(category, COUNT)
    except Unavailable as error:
        current_app.logger.warning("page without recommendations: %s", error.reason)
        return None
    finally:
        g.recommendations_s = time.perf_counter() - started
