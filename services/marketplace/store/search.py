"""Finds books by words of their titles, with SQLite's full-text search (https://www.sqlite.org/fts5.html)."""

import re
from typing import Any

from sqlalchemy import ColumnElement, Select, select, text

from services.feed import Category
from services.marketplace.store.schema import books, titles


def expression(search: str, category: Category | None) -> str:
    """The words of the search as an FTS5 expression, the last as a prefix; empty when there are none."""
    words = re.findall(r"\w+", search.replace("_", " "))
    if not words:
        return ""
    terms = " ".join(f'"{word}"' for word in words)
    within = "" if category is None else f' AND category:"c{int(category)}"'
    return f"title:({terms}*){within}"


def listing(match: str, category: Category | None) -> tuple[Select[Any], ColumnElement[int]]:
    """The books to list, and the column that they are in order of: an index gives that order in each case."""
    if match:
        found = titles.join(books, books.c.position == titles.c.rowid)
        matches = text("titles MATCH :match").bindparams(match=match)
        return select(books).select_from(found).where(matches), titles.c.rowid
    query = select(books)
    if category is not None:
        query = query.where(books.c.category == int(category))
    return query, books.c.position
