"""Recommendations on a page, or the fact that there are none now."""

import time
from typing import NamedTuple

from flask import current_app, g

from services.marketplace.recommendations import Unavailable
from services.marketplace.recommendations.answers import Recommendation
from services.marketplace.shop import current_shop

COUNT = 3


class Shelf(NamedTuple):
    """What a page recommends; new says whether the service did so now. None: nothing could be had."""

    books: list[Recommendation] | None
    new: bool


def recommended(category: int, but: int | None = None) -> Shelf:
    """Three books of the category, but not the one with that id; raises UnknownCategory."""
    started_s = time.perf_counter()
    shop = current_shop()
    count = COUNT if but is None else COUNT + 1
    try:
        within_s = shop.settings.page_budget_s - (started_s - g.started_s)
        books = shop.recommendations.recommend(category, count, within_s)
        return Shelf(_others(books, but), new=True)
    except Unavailable as error:
        current_app.logger.warning("page without recommendations: %s", error.reason)
        return Shelf(_others(error.kept, but) or None, new=False)
    finally:
        g.recommendations_s = time.perf_counter() - started_s


def _others(books: list[Recommendation], but: int | None) -> list[Recommendation]:
    return [book for book in books if book.id != but][:COUNT]
