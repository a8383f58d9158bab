"""An SQLite file that cannot be written or read: the old books stay, the cause is named, and nothing else is raised."""

import logging
import os
import random
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from observability.testing import eventually
from services.marketplace.store import Unavailable
from services.settings import BOOKS
from tests.unit.services.marketplace.test_store import numbered, opened

NOBODY = 65534


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process can grow beyond that size, in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def powerless() -> Iterator[None]:
    """Whom permissions of files hold back: root they do not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that everybody may enter."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    path.chmod(0o777)
    shutil.rmtree(path)


def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old books are sold on, the log names the cause, and the feed is loaded when there is room again."""
    url, registry = f"sqlite:///{tmp_path}/books.sqlite3", CollectorRegistry()
    with opened(url, BOOKS):
        pass
    feed = numbered(tmp_path / "feed.csv", 20_000)
    with full_disk(200_000), opened(url, feed, registry) as store:
        assert len(store.page().books) == 9
        assert registry.get_sample_value("marketplace_feed_loaded") == 0
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage().endswith("the books are those of before: disk I/O error")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(lambda: registry.get_sample_value("marketplace_feed_loaded") == 1)
        assert len(store.page(search="book").books) == 24


def test_a_file_that_may_only_be_read(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its feed in it, nothing is written; another feed is not loaded, and the log says why."""
    file, feed = directory / "books.sqlite3", Path(shutil.copy(BOOKS, directory))
    other = numbered(directory / "feed.csv", 2)
    with powerless():
        url = f"sqlite:///{file}"
        with opened(url, feed):
            pass
        file.chmod(0o444)
    directory.chmod(0o555)
    with powerless():
        for books_file, errors in ((feed, 0), (other, 1)):
            with opened(url, books_file) as store:
                store.ping()
                assert len(store.page().books) == 9
                said = [record for record in caplog.records if record.levelno == logging.ERROR]
                assert len(said) == errors
    assert "attempt to write a readonly database" in said[0].getMessage()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_corrupt(seed: int, tmp_path: Path) -> None:
    """With any bytes of the file changed, a page is read or Unavailable is raised."""
    chance = random.Random(seed)
    file, feed = tmp_path / "books.sqlite3", numbered(tmp_path / "feed.csv", 60)
    with opened(f"sqlite:///{file}", feed):
        pass
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice([1, 5, 200])):
        content[chance.randrange(100, len(content))] = chance.randrange(256)
    file.write_bytes(content)
    with opened(f"sqlite:///{file}", feed) as store:
        for read in (store.page, lambda: store.page(search="bo"), lambda: store.book(7), store.ping):
            with suppress(Unavailable):
                read()
