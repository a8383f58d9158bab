"""`/books/<id>`: one book, and others of its category."""

from flask import Blueprint, abort, render_template

from services.feed import INT32_MAX
from services.marketplace.pages.recommended import Shelf, recommended
from services.marketplace.recommendations import UnknownCategory
from services.marketplace.shop import current_shop

blueprint = Blueprint("book", __name__)


@blueprint.get("/books/<int:book_id>")
def book(book_id: int) -> str:
    """The page of a book."""
    found = current_shop().store.book(book_id) if book_id <= INT32_MAX else None
    if found is None:
        abort(404, f"There is no book {book_id if book_id <= INT32_MAX else 'with so large a number'}.")
    try:
        shelf = recommended(found.category, but=book_id)
    except UnknownCategory:  # the services were given different feeds
        shelf = Shelf(None, new=False)
    return render_template("book.html", book=found, shelf=shelf)
