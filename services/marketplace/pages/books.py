"""`/books`: all books on sale, by category and title."""

from flask import Blueprint, render_template

from services.marketplace.pages import asked
from services.marketplace.shop import current_shop

LONGEST_SEARCH = 100

blueprint = Blueprint("books", __name__)


@blueprint.get("/books")
def books() -> str:
    """A page of the list."""
    category, search = asked.known_category(), asked.words("q", LONGEST_SEARCH)
    page = current_shop().store.page(category, search, asked.position("after"), asked.position("before"))
    return render_template("books.html", page=page, category=category, search=search)
