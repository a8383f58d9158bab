"""What the store asks of a database, whichever it is."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from services.feed import Category

FAILURES = (SQLAlchemyError, ValueError)  # the latter: what a corrupt database says is no text, or no book


class Deadline(threading.local):
    """Until when the thread waits for the database; for ever, unless it says otherwise."""

    _at_s: float | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Wait so many seconds for what is done in the context."""
        self._at_s = time.monotonic() + seconds
        try:
            yield
        finally:
            self._at_s = None

    def left_s(self) -> float | None:
        """How many seconds are left, 0 or more; None when there is no deadline."""
        return None if self._at_s is None else max(self._at_s - time.monotonic(), 0.0)

    def has_passed(self) -> bool:
        """Whether nothing is left."""
        return self.left_s() == 0.0


@dataclass(frozen=True)
class Limits:
    """What pages may take: connections at once, and seconds of waiting, half of them for a connection."""

    connections: int
    timeout_s: float
    deadline: Deadline


class Database(ABC):
    """A database: pages read it with the engine `pages`, and the feed is loaded with the engine `loading`."""

    pages: Engine
    loading: Engine

    @abstractmethod
    def lock(self, connection: Connection) -> None:
        """Begin to load: whoever else loads goes first, or raises DBAPIError here when it takes too long."""

    @abstractmethod
    def insert(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Write the books, each as a row of the table `books`, and the words of their titles."""

    @abstractmethod
    def search(self, words: list[str], category: Category | None) -> tuple[Select[Any], ColumnElement[int]]:
        """The books whose titles have these words, the last as a beginning; and the column of their order."""

    @abstractmethod
    def reason(self, error: DBAPIError) -> str:
        """Why it failed: locked, timeout, unreachable, corrupt, read_only, full or other."""

    def close(self) -> None:
        """Close the connections."""
        self.pages.dispose()
        self.loading.dispose()
