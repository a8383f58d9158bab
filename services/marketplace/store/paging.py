"""Pages of a listing, which is in order of position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from services.feed import Book, Category

PAGE = 24


@dataclass(frozen=True)
class Page:
    """A page of books, and where the pages beside it begin (None: there is none)."""

    books: list[Book]
    before: int | None
    after: int | None


def page_of(rows: Sequence[Row[Any]], backwards: bool, has_before: bool) -> Page:
    """The page that the rows make; one row too many says that there are more. Backwards: in falling order."""
    more, rows = len(rows) > PAGE, rows[:PAGE]
    rows = rows[::-1] if backwards else rows
    has_before, has_after = (more, True) if backwards else (has_before, more)
    first, last = (rows[0].position, rows[-1].position) if rows else (None, None)
    return Page([book_of(row) for row in rows], first if has_before else None, last if has_after else None)


def book_of(row: Row[Any]) -> Book:
    """The book that a row is."""
    return Book(row.id, row.title, row.author, Category(row.category), row.price)
