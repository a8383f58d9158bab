"""Loads the feed into the database, once for each feed, whole or not at all."""

from pathlib import Path

from sqlalchemy import Connection, delete, inspect, select

from services.feed import fingerprint, read_books
from services.marketplace.store.database import Database
from services.marketplace.store.migrations import migrate
from services.marketplace.store.schema import SCHEMA, books, feed


def load(database: Database, books_file: Path) -> None:
    """Replace the books by those of the feed, unless they are; when that fails, the old books stay.

    Raises services.feed.FeedError when the feed cannot be used, and an exception of SQLAlchemy when the
    database cannot.
    """
    wanted = f"{SCHEMA}:{fingerprint(books_file)}"
    with database.loading.begin() as connection:
        if _loaded(connection) == wanted:
            return
        database.lock(connection)
        if _loaded(connection) != wanted:  # another process may have loaded it meanwhile
            _replace(database, connection, books_file, wanted)


def _loaded(connection: Connection) -> str | None:
    """The fingerprint of the schema and of the feed that the database has."""
    return connection.scalar(select(feed.c.fingerprint)) if inspect(connection).has_table(feed.name) else None


def _replace(database: Database, connection: Connection, books_file: Path, wanted: str) -> None:
    ordered = sorted(read_books(books_file), key=lambda book: book.title.casefold())
    migrate(connection)
    connection.execute(delete(books))
    connection.execute(delete(feed))
    database.insert(connection, [(position, *book) for position, book in enumerate(ordered, start=1)])
    connection.execute(feed.insert().values(fingerprint=wanted))
