"""The feed: what is accepted, and how what is wrong is reported."""

from pathlib import Path

import pytest

from protobufs.recommendations_pb2 import BookCategory
from services.feed import Book, Category, FeedError, fingerprint, read_books
from services.settings import BOOKS

HEADER = "id,title,author,category,price\n"
GOOD = "1,Title,Author,MYSTERY,9.5\n"


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    return tmp_path / "feed.csv"


def test_the_default_feed_is_the_tutorials() -> None:
    """The nine books of the tutorial, three a category."""
    books = list(read_books(BOOKS))
    assert [book.id for book in books] == list(range(1, 10))
    assert [book.category for book in books] == [category for category in Category for _ in range(3)]
    assert books[0][:4] == (1, "The Maltese Falcon", "Dashiell Hammett", Category.MYSTERY)


def test_categories_are_the_contracts() -> None:
    """Names and numbers of the categories are those of the gRPC contract."""
    assert {category.name: category.value for category in Category} == dict(BookCategory.items())


def test_prices_are_cents_and_columns_have_any_order(feed: Path) -> None:
    """Columns are found by name; a price of 9.5 is 950 cents; a byte order mark and empty lines are no matter."""
    feed.write_text("\ufeffprice,category,author,title,id\n\n9.5,SELF_HELP,A,T,7\n", encoding="utf-8")
    assert list(read_books(feed)) == [Book(7, "T", "A", Category.SELF_HELP, 950)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the columns must be id, title, author, category, price, got no column 'id'"),
        ("id,title,author,category,prize\n", "got an unknown column 'prize'"),
        ("id,id,title,author,category,price\n", "got the column 'id' twice"),
        (HEADER, "must have at least one book, got a header and no rows"),
        (HEADER + "1,T,A,MYSTERY\n", "line 2: must have 5 fields, got 4"),
        (HEADER + "0,T,A,MYSTERY,1\n", "line 2, column id: must be a whole number from 1"),
        (HEADER + "x,T,A,MYSTERY,1\n", "got 'x'"),
        (HEADER + GOOD + "2,,A,MYSTERY,1\n", "got ''"),
        (HEADER + f"1,T,{'A' * 201},MYSTERY,1\n", "line 2, column author: must be 1 to"),
        (HEADER + "1,T\x07,A,MYSTERY,1\n", "line 2, column title"),
        (HEADER + "1,T,A,COOKING,1\n", "column category: must be one of MYSTERY, SCIENCE_FICTION, SELF_HELP"),
        (HEADER + "1,T,A,MYSTERY,-1\n", "column price: must be a decimal"),
        (HEADER + GOOD + GOOD, "line 3, column id: must be there once, and line 2 has it, got '1'"),
        (HEADER + '1,"T,A,MYSTERY,1\n', "must be valid CSV, got: "),
    ],
)  # fmt: skip
def test_a_wrong_feed_is_reported_by_place_value_and_what_is_allowed(
    feed: Path, text: str, said: str
) -> None:
    """The error is one line that names file, line, column, value and what is allowed."""
    feed.write_text(text, encoding="utf-8")
    with pytest.raises(FeedError) as error:
        list(read_books(feed))
    assert said in str(error.value)
    assert str(feed) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_feed_that_is_not_utf8_or_not_there(feed: Path) -> None:
    """Bytes that are no UTF-8 are reported with their line; a missing file with what to do."""
    feed.write_bytes((HEADER + GOOD).encode() + "2,Café,A,MYSTERY,1\n".encode("latin-1"))
    with pytest.raises(FeedError, match="line 3: must be UTF-8"):
        list(read_books(feed))
    with pytest.raises(FeedError, match="must be a readable CSV file, got: "):
        fingerprint(feed.parent / "none.csv")
