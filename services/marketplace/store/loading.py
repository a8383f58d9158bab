"""Loads the feed into the database, once for each feed."""

from pathlib import Path

from sqlalchemy import Connection, Engine, select

from services.feed import fingerprint, read_books
from services.marketplace.store.schema import SCHEMA, feed, metadata


def load(engine: Engine, books_file: Path) -> None:
    """Replace the books by those of the feed, unless they are; raises services.feed.FeedError."""
    digest = f"{SCHEMA}:{fingerprint(books_file)}"
    with engine.connect() as connection:
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
