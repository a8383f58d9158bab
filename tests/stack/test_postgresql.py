"""The shop's catalogue in a real PostgreSQL."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.postgresql import Server, needs_postgresql
from tests.unit.services.marketplace.test_store import TestStore, opened, write

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
    yield server.url.removesuffix("postgres") + "books"
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
