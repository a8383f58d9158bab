"""The catalogue in an SQLite file or in memory; words are found with FTS5 (https://www.sqlite.org/fts5.html)."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool, StaticPool

from services.feed import Category
from services.marketplace.store.database import Database, Limits
from services.marketplace.store.schema import books, titles_fts5
from services.marketplace.store.search import words

LOADING_MS = 60_000  # once it loads, it waits so long for pages that are being read
STEPS = 10_000  # of SQLite's machine, between two looks at the deadline
REASONS = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_INTERRUPT: "timeout",
    sqlite3.SQLITE_CANTOPEN: "unreachable",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_FULL: "full",
}


class Sqlite(Database):
    """The catalogue in a file, or in memory if there is none."""

    def __init__(self, file: str | None, limits: Limits) -> None:
        if not file:
            memory = _opener(":memory:", limits)()
            self.pages = create_engine("sqlite://", creator=lambda: memory, poolclass=StaticPool)
            self.loading = self.pages
            return
        path = Path(file).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        # The engines do not know the file: spans of queries would have its path in their names. Only loading
        # makes a file: a page that finds none fails, instead of finding an empty one from then on.
        self.pages = create_engine(
            "sqlite://",
            creator=_opener(f"{path.as_uri()}?mode=rw", limits),
            poolclass=QueuePool,
            pool_size=limits.connections,
            max_overflow=0,
            pool_timeout=limits.timeout_s / 2,
        )
        self.loading = create_engine(
            "sqlite://", creator=_opener(f"{path.as_uri()}?mode=rwc", limits), poolclass=NullPool
        )
        _follow(self.pages, path)

    def lock(self, connection: Connection) -> None:
        """Begin the transaction as its only writer."""
        connection.exec_driver_sql("PRAGMA cache_spill = OFF")  # what is written early locks readers out
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOADING_MS}")

    def insert(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Write the books and the words of their titles."""
        connection.exec_driver_sql("INSERT INTO books VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.exec_driver_sql("INSERT INTO titles (titles) VALUES ('delete-all')")
        found = [
            (position, " ".join(words(title)), f"c{int(category)}")
            for position, _, title, _, category, _ in rows
        ]
        connection.exec_driver_sql("INSERT INTO titles (rowid, title, category) VALUES (?, ?, ?)", found)

    def search(
        self, searched: list[str], category: Category | None
    ) -> tuple[Select[Any], ColumnElement[int]]:
        """An FTS5 expression over words and category: the index gives the order in each case."""
        terms = " ".join(f'"{word}"' for word in searched)
        within = "" if category is None else f' AND category:"c{int(category)}"'
        match = text("titles MATCH :match").bindparams(match=f"title:({terms}*){within}")
        found = titles_fts5.join(books, books.c.position == titles_fts5.c.rowid)
        return select(books).select_from(found).where(match), titles_fts5.c.rowid

    def reason(self, error: DBAPIError) -> str:
        """By SQLite's primary result code (https://www.sqlite.org/rescode.html)."""
        code: int = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return REASONS.get(code & 0xFF, "other")


def _follow(engine: Engine, path: Path) -> None:
    """Leave a file that is not at its path any more: it was removed, or replaced by another one."""

    def identity() -> tuple[int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @event.listens_for(engine, "connect")
    def opened(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["file"] = identity()

    @event.listens_for(engine, "checkout")
    def taken(_: Any, record: ConnectionPoolEntry, __: Any) -> None:
        if record.info["file"] != identity():
            raise DisconnectionError


def _opener(database: str, limits: Limits) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            database,
            uri=True,
            timeout=limits.timeout_s / 2,
            isolation_level=None,  # a transaction is begun in words, or there is none
            check_same_thread=False,
        )
        connection.set_progress_handler(limits.deadline.has_passed, STEPS)
        return connection

    return connect
