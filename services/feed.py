"""The feed of books that both services read: a CSV file, checked row by row."""

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

INT32_MAX = 2**31 - 1
TEXT_MAX = 200
SHOWN = 40

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PRICE = re.compile(r"([0-9]{1,7})(?:\.([0-9]{1,2}))?")


class Category(IntEnum):
    """The kinds of books, numbered as in the gRPC contract."""

    MYSTERY = 0
    SCIENCE_FICTION = 1
    SELF_HELP = 2

    @property
    def label(self) -> str:
        """The name that a reader sees."""
        return _LABELS[self]


_LABELS = {
    Category.MYSTERY: "Mystery",
    Category.SCIENCE_FICTION: "Science fiction",
    Category.SELF_HELP: "Self-help",
}


class Book(NamedTuple):
    """One book of the feed; the price is in cents."""

    id: int
    title: str
    author: str
    category: Category
    price: int


class FeedError(Exception):
    """The feed cannot be used; the message is one line that says where and why."""


def read_books(path: Path) -> Iterator[Book]:
    """Yield the books of a feed; raise FeedError at the first row that is wrong."""
    seen: set[int] = set()
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        pick = _columns(path, next(reader, []))
        for row in reader:
            if not row:
                continue
            book = _book(path, reader.line_num, row, pick)
            if book.id in seen:
                raise _refusal(path, reader.line_num, "id", row, pick, _first_use(path, book.id))
            seen.add(book.id)
            yield book
    if not seen:
        raise FeedError(f"{path}: must have at least one book, got a header and no rows")


def fingerprint(path: Path) -> str:
    """Return a digest of the feed's bytes: the same feed has the same one."""
    with _readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FeedError(f"{path}: must be a readable CSV file, got: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FeedError(
            f"{path}, line {_undecodable(path)}: must be UTF-8, got other bytes; save the feed as UTF-8"
        ) from error
    except csv.Error as error:
        raise FeedError(f"{path}: must be valid CSV, got: {error}; check the quotes in the feed") from error


def _undecodable(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.decode("utf-8", "ignore").encode() != line:
                return number
    return number


_Pick = Callable[[list[str]], tuple[str, ...]]


def _columns(path: Path, header: list[str]) -> _Pick:
    """Return what takes the columns of a row in the order of Book."""
    if sorted(header) != sorted(_PARSERS):
        problems = [f"an unknown column {name[:SHOWN]!r}" for name in header if name not in _PARSERS]
        problems += [f"no column {name!r}" for name in _PARSERS if name not in header]
        problems += [f"the column {name!r} twice" for name in _PARSERS if header.count(name) > 1]
        raise FeedError(f"{path}, line 1: the columns must be {', '.join(_PARSERS)}, got {problems[0]}")
    return itemgetter(*map(header.index, _PARSERS))


def _book(path: Path, line: int, row: list[str], pick: _Pick) -> Book:
    if len(row) != len(_PARSERS):
        raise FeedError(f"{path}, line {line}: must have {len(_PARSERS)} fields, got {len(row)}")
    id_, title, author, category, price = pick(row)
    try:
        return Book(_id(id_), _text(title), _text(author), _category(category), _price(price))
    except ValueError as error:
        raise _refusal(path, line, _culprit(pick(row)), row, pick, str(error)) from None


def _id(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= len(str(INT32_MAX)):  # noqa: SIM102
        if 0 < (number := int(text)) <= INT32_MAX:
            return number
    raise ValueError(f"must be a whole number from 1 to {INT32_MAX}")


def _text(text: str) -> str:
    if len(text) <= TEXT_MAX and text.strip() and (text.isprintable() or not _CONTROL.search(text)):
        return text
    raise ValueError(f"must be 1 to {TEXT_MAX} characters, none of them a control character")


def _category(text: str) -> Category:
    try:
        return _CATEGORIES[text]
    except KeyError:
        raise ValueError(f"must be one of {', '.join(_CATEGORIES)}") from None


_CATEGORIES = dict(Category.__members__)


@lru_cache(maxsize=2**16)  # prices repeat, and parsing one is the slowest part of a row
def _price(text: str) -> int:
    if match := _PRICE.fullmatch(text):
        whole, cents = match.groups("")
        return int(whole) * 100 + int(cents.ljust(2, "0"))
    raise ValueError("must be a decimal number from 0 to 9999999.99 with at most 2 places")


_PARSERS: dict[str, Callable[[str], object]] = {
    "id": _id,
    "title": _text,
    "author": _text,
    "category": _category,
    "price": _price,
}


def _culprit(values: tuple[str, ...]) -> str:
    """Return the column that its parser refuses."""
    return next(
        name
        for (name, parse), value in zip(_PARSERS.items(), values, strict=True)
        if not _accepts(parse, value)
    )


def _accepts(parse: Callable[[str], object], value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def _refusal(path: Path, line: int, column: str, row: list[str], pick: _Pick, allowed: str) -> FeedError:
    value = pick(row)[list(_PARSERS).index(column)]
    shown = repr(value if len(value) <= SHOWN else value[:SHOWN] + "…")
    return FeedError(f"{path}, line {line}, column {column}: {allowed}, got {shown}")


def _first_use(path: Path, wanted: int) -> str:
    """Find the line that has an id first, by reading again: so a good feed costs no memory for it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        pick = _columns(path, next(reader))
        line = next(reader.line_num for row in reader if row and int(pick(row)[0]) == wanted)
    return f"must be there once, and line {line} has it"
