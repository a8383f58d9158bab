"""The shop's own catalogue: a database of the books on sale, loaded from the feed.

A book's position is its rank by title. Every listing is in that order and is paged by that one number, so a
page deep in a million books costs what the first one costs.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation
from prometheus_client import CollectorRegistry
from sqlalchemy import Row, Select, exc, make_url, select

from services.feed import Book, Category
from services.marketplace.store.availability import Availability, Unavailable
from services.marketplace.store.database import FAILURES, Database, Deadline, Limits
from services.marketplace.store.loading import load
from services.marketplace.store.metrics import Metrics
from services.marketplace.store.paging import PAGE, Page, book_of, page_of
from services.marketplace.store.schema import books, feed
from services.marketplace.store.search import words

T = TypeVar("T")

__all__ = ["PAGE", "Page", "Store", "Unavailable", "database_at"]


class Store:
    """The books on sale.

    timeout_s is how long a page waits for the database, connections how many it has at once for pages. Raises
    services.feed.FeedError when the feed cannot be used. Without a database it starts, too: what is asked of
    it then raises Unavailable, until the database answers.
    """

    def __init__(
        self,
        database_url: str,
        books_file: Path,
        registry: CollectorRegistry | None = None,
        timeout_s: float = 0.5,
        connections: int = 8,
    ) -> None:
        self._timeout_s = timeout_s
        self._deadline = Deadline()
        self._database = database_at(database_url, Limits(connections, timeout_s, self._deadline))
        self.engine = self._database.pages
        self._availability = Availability(lambda: load(self._database, books_file), self._probe)
        self._metrics = Metrics(registry or CollectorRegistry(), self.engine, self._availability)
        try:
            self._availability.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._availability.close()
        self._database.close()

    def ping(self) -> None:
        """Raise Unavailable when pages cannot be read."""
        self._require_answers()
        self._probe()

    def book(self, book_id: int) -> Book | None:
        """The book with that id. Raises Unavailable."""
        self._require_answers()
        query = select(books).where(books.c.id == book_id)
        return self._read("book", query, lambda rows: book_of(rows[0]) if rows else None)

    def page(
        self,
        category: Category | None = None,
        search: str = "",
        after: int | None = None,
        before: int | None = None,
    ) -> Page:
        """A page in order of title: after one position, or before one, or the first. Raises Unavailable."""
        self._require_answers()
        return self._page(category, search, after, before)

    def _page(self, category: Category | None, search: str, after: int | None, before: int | None) -> Page:
        searched = words(search)
        if searched:
            query, place = self._database.search(searched, category)
        elif search:
            return Page([], None, None)
        else:
            query, place = select(books), books.c.position
            if category is not None:
                query = query.where(books.c.category == int(category))
        backwards = before is not None
        if backwards:
            query = query.where(place < before).order_by(place.desc())
        else:
            query = query.where(place > (after or 0)).order_by(place)
        return self._read(
            "search" if searched else "list",
            query.limit(PAGE + 1),
            lambda rows: page_of(rows, backwards, bool(after)),
        )

    def _probe(self) -> None:
        """Read what pages read: each table, and the index of words."""
        self._read("probe", select(feed.c.fingerprint), len)
        self._page(None, "a", None, None)

    def _require_answers(self) -> None:
        if self._availability.is_away:
            self._metrics.refused.inc()
            raise Unavailable("away")

    def _read(self, name: str, query: Select[Any], read: Callable[[Sequence[Row[Any]]], T]) -> T:
        """What is read from the query's rows, within the time that a page has; name is for the metrics."""
        started_s = time.perf_counter()
        reason = ""
        try:
            with self._deadline.within(self._timeout_s), ExitStack() as opened:
                with suppress_instrumentation():  # the query's own span is enough
                    connection = opened.enter_context(self.engine.connect())
                found = read(connection.execute(query).all())
        except FAILURES as error:
            reason = self._reason(error)
            self._availability.failed(error)
            raise Unavailable(reason) from error
        finally:
            self._metrics.query(name, time.perf_counter() - started_s, reason)
        self._availability.answered()
        return found

    def _reason(self, error: Exception) -> str:
        if isinstance(error, exc.DBAPIError):
            return self._database.reason(error)
        return "no_connection" if isinstance(error, exc.TimeoutError) else "corrupt"


def database_at(database_url: str, limits: Limits) -> Database:
    """The database at a URL: only the driver that it needs is imported."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        from services.marketplace.store.sqlite import Sqlite

        return Sqlite(url.database, limits)
    from services.marketplace.store.postgresql import Postgresql

    return Postgresql(url, limits)
