"""The shop's own catalogue: a database of the books on sale, loaded from the feed.

A book's position is its rank by title. Every listing is in that order and is paged by that one number, so a
page deep in a million books costs what the first one costs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy import URL, Connection, Engine, create_engine, make_url, select
from sqlalchemy.pool import QueuePool, StaticPool

from services.feed import Book, Category
from services.marketplace.store.loading import load
from services.marketplace.store.paging import PAGE, Page, book_of, page_of
from services.marketplace.store.schema import books, feed
from services.marketplace.store.search import expression, listing

__all__ = ["PAGE", "Page", "Store"]
LOCKED_S = 60  # another process may be loading the feed


class Store:
    """The books on sale; raises services.feed.FeedError when the feed cannot be used."""

    def __init__(self, database_url: str, books_file: Path) -> None:
        self.engine = _engine(database_url)
        try:
            load(self.engine, books_file)
        except BaseException:
            self.engine.dispose()
            raise

    def ping(self) -> None:
        """Raise an exception of SQLAlchemy when the database does not answer."""
        with self._connection() as connection:
            connection.execute(select(feed.c.fingerprint)).one()

    def book(self, book_id: int) -> Book | None:
        """The book with that id."""
        with self._connection() as connection:
            row = connection.execute(select(books).where(books.c.id == book_id)).one_or_none()
        return book_of(row) if row else None

    def page(
        self,
        category: Category | None = None,
        search: str = "",
        after: int | None = None,
        before: int | None = None,
    ) -> Page:
        """A page in order of title: after one position, or before one, or the first."""
        match = expression(search, category)
        if search and not match:
            return Page([], None, None)
        query, place = listing(match, category)
        backwards = before is not None
        if backwards:
            query = query.where(place < before).order_by(place.desc())
        else:
            query = query.where(place > (after or 0)).order_by(place)
        with self._connection() as connection:
            rows = connection.execute(query.limit(PAGE + 1)).all()
        return page_of(rows, backwards, bool(after))

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with suppress_instrumentation():  # the query's own span is enough
            connection = self.engine.connect()
        with connection:
            yield connection


def _engine(database_url: str) -> Engine:
    url = make_url(database_url)
    if not url.database:
        memory = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        return create_engine(url, isolation_level="AUTOCOMMIT", **memory)
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    dialect = url.get_dialect()()
    places, options = dialect.create_connect_args(url)

    def connect() -> Any:
        return dialect.import_dbapi().connect(*places, **{"timeout": LOCKED_S, **options})

    # The engine itself does not know the file: spans of queries would have its path in their names.
    nameless = URL.create(url.drivername)
    return create_engine(nameless, isolation_level="AUTOCOMMIT", creator=connect, poolclass=QueuePool)
