"""The shop's own catalogue: a database of the books on sale, loaded from the feed.

A book's position is its rank by title. Every listing is in that order and is paged by that one number, so a
page deep in a million books costs what the first one costs.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    column,
    create_engine,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.pool import StaticPool

from services.feed import Book, Category, fingerprint, read_books

PAGE = 24
SCHEMA = "1"  # part of the fingerprint: another schema loads the feed again

metadata = MetaData()
books = Table(
    "books",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("id", Integer, nullable=False, unique=True),
    Column("title", String, nullable=False),
    Column("author", String, nullable=False),
    Column("category", Integer, nullable=False),
    Column("price", Integer, nullable=False),
)
Index("books_by_category", books.c.category, books.c.position)
feed = Table("feed", metadata, Column("fingerprint", String, primary_key=True))
titles = table("titles", column("rowid"))  # an FTS5 table, which SQLAlchemy has no type for


@dataclass(frozen=True)
class Page:
    """A page of books, and where the pages beside it begin (None: there is none)."""

    books: list[Book]
    before: int | None
    after: int | None


class Store:
    """The books on sale; raises services.feed.FeedError when the feed cannot be used."""

    def __init__(self, database_url: str, books_file: Path) -> None:
        self.engine = _engine(database_url)
        try:
            self._load(books_file)
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
        return _book(row) if row else None

    def page(
        self,
        category: Category | None = None,
        search: str = "",
        after: int | None = None,
        before: int | None = None,
    ) -> Page:
        """A page in order of title: after one position, or before one, or the first."""
        match = _match(search, category)
        if search and not match:
            return Page([], None, None)
        query, place = _listing(match, category)
        backwards = before is not None
        if backwards:
            query = query.where(place < before).order_by(place.desc())
        else:
            query = query.where(place > (after or 0)).order_by(place)
        with self._connection() as connection:
            rows = connection.execute(query.limit(PAGE + 1)).all()
        return _page(rows, backwards, bool(after))

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with suppress_instrumentation():  # the query's own span is enough
            connection = self.engine.connect()
        with connection:
            yield connection

    def _load(self, books_file: Path) -> None:
        digest = f"{SCHEMA}:{fingerprint(books_file)}"
        with self.engine.connect() as connection:
            if _loaded(connection) == digest:
                return
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # a second process waits here, then finds it done
            try:
                if _loaded(connection) != digest:
                    _replace(connection, books_file, digest)
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise


def _engine(database_url: str) -> Engine:
    url = make_url(database_url)
    if not url.database:
        options: dict[str, Any] = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    else:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        options = {"connect_args": {"timeout": 60}}
    return create_engine(url, isolation_level="AUTOCOMMIT", **options)


def _loaded(connection: Connection) -> str | None:
    found = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'feed'").first()
    return connection.execute(select(feed.c.fingerprint)).scalar() if found else None


def _replace(connection: Connection, books_file: Path, digest: str) -> None:
    ordered = sorted(read_books(books_file), key=lambda book: book.title.casefold())
    connection.exec_driver_sql("DROP TABLE IF EXISTS titles")
    metadata.drop_all(connection)
    metadata.create_all(connection)
    rows = [(place, *book) for place, book in enumerate(ordered, start=1)]
    connection.exec_driver_sql("INSERT INTO books VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.exec_driver_sql(
        "CREATE VIRTUAL TABLE titles USING fts5"
        "(title, category, content='', prefix='1 2 3 4 5 6 7 8', tokenize='unicode61 remove_diacritics 2')"
    )
    connection.exec_driver_sql(
        "INSERT INTO titles (rowid, title, category) SELECT position, title, 'c' || category FROM books"
    )
    connection.execute(feed.insert().values(fingerprint=digest))


def _listing(match: str, category: Category | None) -> tuple[Select[Any], ColumnElement[int]]:
    """The books to list, and the column that they are in order of: an index gives that order in each case."""
    if match:
        found = titles.join(books, books.c.position == titles.c.rowid)
        matches = text("titles MATCH :match").bindparams(match=match)
        return select(books).select_from(found).where(matches), titles.c.rowid
    query = select(books)
    if category is not None:
        query = query.where(books.c.category == int(category))
    return query, books.c.position


def _match(search: str, category: Category | None) -> str:
    """The words of the search as an FTS5 expression, the last as a prefix; empty when there are none."""
    words = re.findall(r"\w+", search.replace("_", " "))
    if not words:
        return ""
    terms = " ".join(f'"{word}"' for word in words)
    within = "" if category is None else f' AND category:"c{int(category)}"'
    return f"title:({terms}*){within}"


def _page(rows: Sequence[Row[Any]], backwards: bool, has_before: bool) -> Page:
    more, rows = len(rows) > PAGE, rows[:PAGE]
    rows = rows[::-1] if backwards else rows
    has_before, has_after = (more, True) if backwards else (has_before, more)
    first, last = (rows[0].position, rows[-1].position) if rows else (None, None)
    return Page([_book(row) for row in rows], first if has_before else None, last if has_after else None)


def _book(row: Row[Any]) -> Book:
    return Book(row.id, row.title, row.author, Category(row.category), row.price)
