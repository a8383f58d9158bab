"""The shop's catalogue in a real PostgreSQL."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from observability.testing import eventually
from services.marketplace.store.schema import SCHEMA, metadata
from services.settings import BOOKS
from tests.e2e.processes import Receiver
from tests.e2e.shop_alone import Shop, assert_polite, assert_well
from tests.stack.postgresql import Server, frozen, needs_postgresql, stopped
from tests.unit.services.marketplace.test_store import TITLES, TestStore, opened, write

__all__ = ["TestStore"]
pytestmark = needs_postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """An empty database."""
    server.sql("CREATE DATABASE books")
    yield server.of("books")
    server.sql("DROP DATABASE books WITH (FORCE)")


LETTERS = "abcABC019 -_'.:&|!*()é\u0301ßİ\u0131ΣςñЖжאبक़ि三ﬁ²½Ⅷ🏛\U0001e922\U00016e40"


def test_it_finds_what_sqlite_finds(url: str, tmp_path: Path) -> None:
    """Titles and searches of odd characters have the same answers in both."""
    chance = random.Random(15)
    titles = ["a" + "".join(chance.choices(LETTERS, k=chance.randint(1, 12))) for _ in range(300)]
    feed = write(tmp_path / "feed.csv", titles)
    with opened(url, feed) as ours, opened(f"sqlite:///{tmp_path}/books.sqlite3", feed) as sqlite:
        for _ in range(300):
            search = "".join(chance.choices(LETTERS, k=chance.randint(1, 3)))
            assert (search, ours.page(search=search)) == (search, sqlite.page(search=search))


@pytest.mark.parametrize("fault", [frozen, stopped])
def test_while_it_fails(
    fault: Callable[[Server], AbstractContextManager[None]], server: Server, url: str, tmp_path: Path
) -> None:
    """The shop goes on without its list, and recovers by itself."""
    with closing(Shop(tmp_path, DATABASE_URL=url)) as shop:
        assert_well(shop)
        with fault(server):
            assert_polite(shop)
        assert_well(shop)


@pytest.mark.parametrize("fault", [frozen, stopped])
def test_it_starts_without_it(
    fault: Callable[[Server], AbstractContextManager[None]], server: Server, url: str, tmp_path: Path
) -> None:
    """The shop starts, and loads its feed when PostgreSQL is there."""
    with ExitStack() as failing:
        failing.enter_context(fault(server))
        with closing(Shop(tmp_path, DATABASE_URL=url)) as shop:
            assert_polite(shop)
            failing.close()
            assert_well(shop)


def test_the_url_may_say_how_to_connect(url: str) -> None:
    """Parameters of libpq behind the question mark hold, before the shop's own."""
    given = "?sslmode=disable&application_name=books&options=-c%20work_mem%3D1MB"
    with opened(url + given, BOOKS) as store, store.engine.connect() as connection:
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("application_name", "work_mem", "default_transaction_read_only")
        ]
        assert shown == ["books", "1MB", "on"]


FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON titles EXECUTE FUNCTION full_disk();
"""


def test_a_full_disk(url: str, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the feed is loading: the old books stay on sale, and the log names the cause."""
    with opened(url, BOOKS):
        pass
    assert server.sql(FULL, "books")
    with opened(url, write(tmp_path / "feed.csv", TITLES)) as store:
        assert len(store.page().books) == 9
        assert "no space left on device" in caplog.text
        server.sql("DROP FUNCTION full_disk CASCADE", "books")
        eventually(lambda: len(store.page().books) == len(TITLES))


def test_a_standby_serves_the_books_that_it_has(url: str, server: Server, tmp_path: Path) -> None:
    """Where nothing can be written the old books are sold on."""
    with opened(url, BOOKS):
        pass
    server.sql("ALTER DATABASE books SET default_transaction_read_only = on")
    with opened(url, write(tmp_path / "feed.csv", TITLES)) as store:
        assert len(store.page().books) == 9


def test_the_migrations_make_the_schema(url: str) -> None:
    """The tables of the newest migration are those that the code has."""
    with opened(url, BOOKS) as store, store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == SCHEMA


def test_queries_are_in_the_trace(url: str, tmp_path: Path) -> None:
    """A page's query is a span with the stable names, without a password or what was asked for."""
    with closing(Receiver()) as receiver:
        variables = {
            "DATABASE_TIMEOUT_MS": "20000",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        secret = url.replace("postgres@", "postgres:hunter2@")
        with closing(Shop(tmp_path, DATABASE_URL=secret, **variables)) as shop:
            assert shop.status("/books?q=orient") == 200
        names = {span.span_id: span.name for _, span in receiver.spans}
        queries = [span for _, span in receiver.spans if names.get(span.parent_span_id) == "GET /books"]
    assert [span.name for span in queries] == ["SELECT books"]  # the database's name
    attributes = {pair.key: pair.value.string_value for pair in queries[0].attributes}
    assert attributes["db.system.name"] == "postgresql"
    assert attributes["db.namespace"] == "books"
    assert "FROM titles JOIN books" in attributes["db.query.text"]
    assert not {"orient", "hunter2"} & {*re.findall(r"\w+", str(queries[0]))}
