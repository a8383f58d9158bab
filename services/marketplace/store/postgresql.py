"""The catalogue in PostgreSQL; words are found with its own index of text (a GIN index of tsvector)."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import ConnectionTimeout, OperationalError
from sqlalchemy import URL, ColumnElement, Connection, Select, create_engine, literal, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from services.feed import Category
from services.marketplace.store.database import Database, Deadline, Limits
from services.marketplace.store.schema import books, titles
from services.marketplace.store.search import words

T = TypeVar("T")

LOAD_LOCK = 0x626F6F6B  # "book": any number that all shops have
RECYCLE_S = 600  # a connection is not kept longer, so that shops spread again after a failover
DRIVER = "postgresql+psycopg://"
CONNECTING: dict[str, Any] = {  # unless the URL says otherwise
    "application_name": "marketplace",
    "client_encoding": "utf8",
    "connect_timeout": 2,  # seconds, libpq's lowest
    "keepalives_idle": 5,  # seconds; a host that has gone is noticed in about ten
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms
}
# By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
REASONS = {
    "57014": "timeout",
    "55P03": "locked",
    "25006": "read_only",
    "53100": "full",
    "53300": "no_connection",
    "08": "unreachable",
    "28": "unreachable",
    "3D": "unreachable",
    "57": "unreachable",
    "58": "corrupt",
    "XX": "corrupt",
}


class Postgresql(Database):
    """The catalogue in the database at a URL."""

    def __init__(self, url: URL, limits: Limits) -> None:
        _, options = url.set(drivername="postgresql+psycopg").get_dialect()().create_connect_args(url)
        self._limits = limits
        self._opening = ThreadPoolExecutor(limits.connections, "database-opening")
        # The server ends a slow query before the client gives up on it, which costs the connection.
        pages = f"-c statement_timeout={limits.timeout_s * 800:.0f} -c default_transaction_read_only=on"
        given = options.pop("options", "")

        def connect(more: str) -> _Connection:
            return _Connection.connect(**{**CONNECTING, **options}, options=f"{given} {more}")

        self.pages = create_engine(
            DRIVER,
            use_native_hstore=False,  # it would ask the server for that type
            creator=lambda: self._open(lambda: connect(pages)),
            isolation_level="AUTOCOMMIT",
            poolclass=QueuePool,
            pool_size=limits.connections,
            max_overflow=0,
            pool_timeout=limits.timeout_s / 2,
            pool_pre_ping=True,
            pool_recycle=RECYCLE_S,
        )
        self.loading = create_engine(
            DRIVER, use_native_hstore=False, creator=lambda: connect(""), poolclass=NullPool
        )

    def lock(self, connection: Connection) -> None:
        """Take the lock that all shops take before they load; the transaction's end gives it back."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self._limits.timeout_s * 500:.0f}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOAD_LOCK})")

    def insert(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Write the books and the words of their titles. Readers see the old ones until it is done."""
        connection.execute(titles.delete())
        found = (
            (position, " ".join(f"'{word}'" for word in words(title))) for position, _, title, *_ in rows
        )
        _copy(connection, "books", ((*values, int(category), price) for *values, category, price in rows))
        _copy(connection, "titles", found)
        connection.exec_driver_sql("ANALYZE books, titles")

    def search(
        self, searched: list[str], category: Category | None
    ) -> tuple[Select[Any], ColumnElement[int]]:
        """A tsquery of the words as they are: PostgreSQL's own parsers would split and stem them."""
        match = sql_cast(literal(" & ".join(f"'{word}'" for word in searched) + ":*"), TSQUERY)
        found = titles.join(books, books.c.position == titles.c.position)
        query = select(books).select_from(found).where(titles.c.words.bool_op("@@")(match))
        if category is not None:
            query = query.where(books.c.category == int(category))
        return query, books.c.position

    def reason(self, error: DBAPIError) -> str:
        """By the error's SQLSTATE; without one, it is of the connection."""
        if isinstance(error.orig, ConnectionTimeout):
            return "timeout"
        state = getattr(error.orig, "sqlstate", None) or "08"
        return REASONS.get(state) or REASONS.get(state[:2], "other")

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._opening.shutdown(wait=False, cancel_futures=True)

    def _open(self, connect: Callable[[], "_Connection"]) -> "_Connection":
        """Open a connection in another thread: libpq waits for two seconds or more, and a page does not."""
        opening = self._opening.submit(connect)
        try:
            connection = opening.result(self._limits.deadline.left_s())
        except TimeoutError:
            opening.add_done_callback(_close)
            raise ConnectionTimeout("no connection in time") from None
        connection.deadline = self._limits.deadline
        return connection


class _Connection(psycopg.Connection[Any]):
    """A connection that does not wait beyond its deadline, even if the server is frozen."""

    deadline: Deadline | None = None

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        if self.deadline is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.deadline.left_s())
        except OperationalError:
            if not self.deadline.has_passed():
                raise
            self.close()  # an answer has been read in part
            raise ConnectionTimeout("no answer in time") from None


def _copy(connection: Connection, table: str, rows: Iterable[Sequence[Any]]) -> None:
    """Write many rows, in the way that is quickest."""
    statement = f"COPY {table} FROM STDIN"
    cursor = cast("psycopg.Cursor[Any]", connection.connection.cursor())
    try:
        with cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:  # SQLAlchemy does not see it
        raise DatabaseError(statement, None, error) from error


def _close(opening: "Future[_Connection]") -> None:
    """Close a connection that came too late."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
