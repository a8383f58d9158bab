"""The shop while its database fails: the list is a polite 503 soon, all else goes on, and it recovers by itself."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from observability.testing import eventually
from tests.e2e.processes import get
from tests.e2e.shop_alone import Shop, assert_polite, assert_well

pytestmark = pytest.mark.full


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with closing(Shop(tmp_path)) as running:
        eventually(lambda: running.status("/readyz") == 200)
        yield running


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process holds it."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def corrupt(file: Path) -> Iterator[None]:
    """Its content is overwritten."""
    good = shutil.copy(file, file.with_suffix(".good"))
    with file.open("r+b") as content:
        content.write(b"no database " * (file.stat().st_size // 12))
    yield
    shutil.copy(good, file)


@contextmanager
def no_file(file: Path) -> Iterator[None]:
    """A folder is in its place."""
    away = file.rename(file.with_suffix(".away"))
    file.mkdir()
    yield
    file.rmdir()
    away.rename(file)


@pytest.mark.parametrize("fault", [locked, corrupt, no_file])
def test_while_it_fails(
    fault: Callable[[Path], AbstractContextManager[None]], shop: Shop, tmp_path: Path
) -> None:
    """The list is 503 with Retry-After, home and /livez are 200, /readyz is 503; then all is well again."""
    with fault(tmp_path / "books.sqlite3"):
        assert_polite(shop)
    assert_well(shop)


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_a_database_that_is_lost_is_made_again(damage: str, shop: Shop, tmp_path: Path) -> None:
    """Without the file, or the tables in it, pages are 503 until the shop has loaded its feed again."""
    file = tmp_path / "books.sqlite3"
    if damage == "removed":
        file.unlink()
    else:
        with closing(sqlite3.connect(file)) as other:
            for table in ("titles", "books", "feed", "alembic_version"):
                other.execute(f"DROP TABLE {table}")
    assert shop.status("/books") == 503
    assert file.exists() == (damage == "emptied")  # a page does not make an empty one
    eventually(lambda: shop.status("/books") == 200)
    assert "Ender" in get(f"{shop.url}/books")[1]


def test_it_starts_without_its_database(tmp_path: Path) -> None:
    """Home is served at once; the list as soon as the database lets the feed in."""
    with ExitStack() as lock:
        lock.enter_context(locked(tmp_path / "books.sqlite3"))
        with closing(Shop(tmp_path)) as shop:
            assert [shop.status(path) for path in ("/", "/books", "/readyz")] == [200, 503, 503]
            lock.close()
            eventually(lambda: shop.status("/readyz") == 200)
            assert shop.status("/books") == 200
