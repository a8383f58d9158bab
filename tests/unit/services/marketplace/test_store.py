"""The shop's catalogue: the same answers from each database, and the feed loaded whole or not at all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import URL, NullPool, create_engine, delete, make_url, text

from observability.testing import eventually
from services.feed import Category, FeedError
from services.marketplace.store import PAGE, Store, Unavailable, database_at
from services.marketplace.store.database import Deadline, Limits
from services.marketplace.store.schema import books
from services.settings import BOOKS

TITLES = [
    "Crime and Punishment", "crime-fiction: an e-mail", "CAFÉ Society", "Cafe\u0301 noir", "Straße", "STRASSE 10.5",
    "C++ in 21 Days", "Don't Panic", "under_score", "www.example.com/path?q=1", "Война и мир", "三体", "ﬁne print",
    "İstanbul", "x² + y²", "Ελληνικά 🏛 2", "'quoted' & | ! :* \\", "c0 c1 c2",
]  # fmt: skip
FOUND = {
    "crime": [0, 1],
    "punishment crime": [0],
    "cri": [0, 1],
    "cri and": [],
    "an": [0, 1],
    "e mail": [1],
    "email": [],
    "cafe": [2, 3],
    "CAFÉ": [2, 3],
    "strasse": [4, 5],
    "straße 10": [5],
    "10.5": [5],
    "5": [5],
    "c": [0, 1, 2, 3, 6, 9, 17],
    "c in": [6],
    "c++ 21": [6],
    "don't": [7],
    "dont": [],
    "under score": [8],
    "under_sc": [8],
    "example path": [9],
    "www.example.com/path?q=1": [9],
    "война": [10],
    "ВОЙНА МИ": [10],
    "三体": [11],
    "fine": [12],
    "istanbul": [13],
    "x2": [14],
    "ελληνικα": [15],
    "'": [],
    "'quoted' & :*": [16],
    "\\": [],
    "c1": [17],
    "zebra": [],
}

SLOW = {  # what takes the place of the table
    "sqlite": "CREATE VIEW books AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS position, i AS id, '' AS title, '' AS author, 0 AS category, 0 AS price FROM n",
    "postgresql": "CREATE VIEW books AS "
    "SELECT 1 AS position, 1 AS id, '' AS title, '' AS author, 0 AS category, 0 AS price FROM pg_sleep(60)",
}


def write(path: Path, titles: list[str]) -> Path:
    """A feed of books with these titles, the first with id 1; categories take turns."""
    rows = [
        f'{number},"{title}",A,{Category(number % 3).name},1\n'
        for number, title in enumerate(titles, start=1)
    ]
    path.write_text("id,title,author,category,price\n" + "".join(rows), encoding="utf-8")
    return path


def numbered(path: Path, count: int) -> Path:
    return write(path, [f"Book {number:05}" for number in range(1, count + 1)])


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty database."""
    return f"sqlite:///{tmp_path}/a new %41 #1/books.sqlite3"


@contextmanager
def opened(
    url: str,
    feed: Path,
    registry: CollectorRegistry | None = None,
    timeout_s: float = 20.0,
    connections: int = 8,
) -> Iterator[Store]:
    """A store that is patient, as the machine may be busy."""
    with closing(Store(url, feed, registry, timeout_s, connections)) as store:
        yield store


def loaded(store: Store) -> bool:
    """Whether its pages can be read."""
    try:
        store.ping()
    except Unavailable:
        return False
    return True


def driver(url: str) -> URL:
    """The URL as SQLAlchemy wants it."""
    return make_url(url.replace("postgresql:", "postgresql+psycopg:"))


def make_slow(url: str) -> None:
    """Let it take for ever to list the books."""
    with create_engine(driver(url), poolclass=NullPool).begin() as other:
        other.execute(text("DROP TABLE books"))
        other.execute(text(SLOW[other.dialect.name]))


def count(registry: CollectorRegistry, **labels: str) -> float:
    """How many queries have these labels."""
    (family,) = [each for each in registry.collect() if each.name == "db_client_operation_duration_seconds"]
    counted = [
        each
        for each in family.samples
        if each.name.endswith("_count") and labels.items() <= each.labels.items()
    ]
    return sum(each.value for each in counted)


class TestStore:
    """What each database does; tests/stack/test_postgresql.py runs the same."""

    def test_a_book(self, url: str) -> None:
        """A book is found by its id, with all that the feed says of it."""
        with opened(url, BOOKS) as store:
            assert store.book(5) == (5, "Ender's Game", "Orson Scott Card", Category.SCIENCE_FICTION, 949)
            assert store.book(99) is None

    @pytest.mark.parametrize("category", [None, *Category])
    def test_pages(self, category: Category | None, url: str, tmp_path: Path) -> None:
        """Forwards and backwards each book is on one page, in order of title."""
        count = 3 * (2 * PAGE + 5)
        with opened(url, numbered(tmp_path / "feed.csv", count)) as store:
            pages = [store.page(category)]
            while pages[-1].after is not None:
                pages.append(store.page(category, after=pages[-1].after))
            found = [book for page in pages for book in page.books]
            assert len(found) == (count if category is None else count / 3)
            assert [book.id for book in found] == sorted({book.id for book in found})
            assert {book.category for book in found} == ({*Category} if category is None else {category})
            for earlier, later in pairwise(pages):
                assert store.page(category, before=later.before).books == earlier.books

    def test_search(self, url: str, tmp_path: Path) -> None:
        """Words are found whole, the last one by its beginning, whatever their case, accents and signs."""
        with opened(url, write(tmp_path / "feed.csv", TITLES)) as store:
            for search, places in FOUND.items():
                found = {book.title for book in store.page(search=search).books}
                assert (search, found) == (search, {TITLES[place] for place in places})

    def test_search_in_a_category(self, url: str, tmp_path: Path) -> None:
        """Only books of the category are found, page by page."""
        with opened(url, numbered(tmp_path / "feed.csv", 4 * PAGE)) as store:
            first = store.page(Category.MYSTERY, "book 0")
            second = store.page(Category.MYSTERY, "book 0", after=first.after)
            ids = [book.id for page in (first, second) for book in page.books]
            assert ids == list(range(3, 4 * PAGE + 1, 3))
            assert store.page(Category.MYSTERY, "book 0", before=second.before).books == first.books

    def test_the_feed_is_followed(self, url: str, tmp_path: Path) -> None:
        """Another feed replaces the books; the same one writes nothing; a wrong one leaves them as they are."""
        feed = tmp_path / "feed.csv"
        for books_file, count in ((BOOKS, 9), (numbered(feed, 2), 2), (feed, 2)):
            with opened(url, books_file) as store:
                assert len(store.page().books) == count
                assert len(store.page(search="book").books) == (2 if count == 2 else 0)
        bad = tmp_path / "bad.csv"
        bad.write_text("id,title,author,category,price\n1,T,A,MYSTERY,x\n")
        with pytest.raises(FeedError, match="column price"):
            Store(url, bad)
        with opened(url, feed) as store:
            assert len(store.page().books) == 2

    def test_a_newer_shops_tables_are_left_alone(self, url: str, tmp_path: Path) -> None:
        """A shop that is rolled back serves the books that are there, and loads none."""
        with opened(url, BOOKS):
            pass
        with create_engine(driver(url), poolclass=NullPool).begin() as newer:
            newer.execute(text("UPDATE alembic_version SET version_num = '99'"))
            newer.execute(text("UPDATE feed SET fingerprint = '99:' || fingerprint"))
        registry = CollectorRegistry()
        with opened(url, numbered(tmp_path / "feed.csv", 2), registry) as store:
            assert len(store.page().books) == 9
            assert registry.get_sample_value("marketplace_feed_loaded") == 0

    def test_several_shops_start_at_once(self, url: str, tmp_path: Path) -> None:
        """One of them loads the feed; all have its books in the end, and none fails."""
        feed = numbered(tmp_path / "feed.csv", 2000)
        with ThreadPoolExecutor(6) as starting:
            stores = list(starting.map(lambda _: Store(url, feed), range(6)))
        try:
            for store in stores:
                eventually(partial(loaded, store))
                assert len(store.page().books) == PAGE
        finally:
            for store in stores:
                store.close()

    def test_pages_are_read_while_another_shop_loads(self, url: str) -> None:
        """They have the books of before, up to the end of the load."""
        rows = [(place, place, f"Book {place}", "A", Category.MYSTERY, 1) for place in range(1, 30_000)]
        with opened(url, BOOKS) as store, closing(database_at(url, Limits(1, 0.5, Deadline()))) as other:
            with other.loading.connect() as connection:
                other.lock(connection)
                connection.execute(delete(books))
                other.insert(connection, rows)
                assert len(store.page().books) == 9
                connection.commit()
            assert len(store.page().books) == PAGE

    def test_a_slow_query_is_given_up(self, url: str) -> None:
        """Pages wait for it no longer than they may; the reason is in the metrics."""
        registry = CollectorRegistry()
        with opened(url, BOOKS, registry, timeout_s=0.5) as store:
            make_slow(url)
            for reason in ("timeout", "timeout", "timeout", "away"):
                with pytest.raises(Unavailable, match=reason):
                    store.page()
            timeouts = {"db_query_summary": "list", "error_type": "timeout"}
            assert count(registry, **timeouts) == 3
            assert registry.get_sample_value("marketplace_database_refused_total") == 1
            assert registry.get_sample_value("marketplace_database_up") == 0

    def test_connections_are_limited(self, url: str) -> None:
        """A page waits for a connection that others have, and then no longer than half of its time."""
        registry = CollectorRegistry()
        with (
            opened(url, BOOKS, registry, timeout_s=3, connections=1) as store,
            ThreadPoolExecutor(1) as other,
        ):
            make_slow(url)
            first = other.submit(store.page)
            labels = {"db_client_connection_state": "used"}
            eventually(lambda: registry.get_sample_value("db_client_connection_count", labels) == 1)
            with pytest.raises(Unavailable, match="no_connection"):
                store.page()
            with pytest.raises(Unavailable, match="timeout"):
                first.result()

    def test_it_is_measured(self, url: str) -> None:
        """Queries are timed by what they are for, and the pool's connections are counted."""
        registry = CollectorRegistry()
        with opened(url, BOOKS, registry) as store:
            store.page()
            store.page(search="people")
            store.book(1)
            for name in ("book", "list", "search"):
                system = make_url(url).get_backend_name()
                assert count(registry, db_system_name=system, db_query_summary=name, error_type="") == 1
            for state, connections in (("used", 0), ("idle", 1)):
                labels = {"db_client_connection_state": state}
                assert registry.get_sample_value("db_client_connection_count", labels) == connections
            assert registry.get_sample_value("db_client_connection_max") == 8
            assert registry.get_sample_value("marketplace_database_up") == 1
            assert registry.get_sample_value("marketplace_feed_loaded") == 1
