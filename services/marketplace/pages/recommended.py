"""Recommendations on a page, or the fact that there are none now."""

import time

from flask import current_app, g

from services.marketplace.recommendations import Recommendation, Unavailable
from services.marketplace.shop import current_shop

COUNT = 3


def recommended(category: int, but: int | None = None) -> list[Recommendation] | None:
    """Three books of the category, but not the one with that id; None when they cannot be had now.

    Raises UnknownCategory.
    """
    started = time.perf_counter()
    try:
        count = COUNT if but is None else COUNT + 1
        books = current_shop().recommendations.recommend(category, count)
        return [book for book in books if book.id != but][:COUNT]
    except Unavailable as error:
        current_app.logger.warning("page without recommendations: %s", error.reason)
        return None
    finally:
        g.recommendations_s = time.perf_counter() - started
