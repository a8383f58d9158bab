"""`/`: three books that the reader may like."""

from flask import Blueprint, render_template

from services.feed import Category
from services.marketplace.pages import asked
from services.marketplace.pages.recommended import recommended
from services.marketplace.recommendations import UnknownCategory

blueprint = Blueprint("home", __name__)


@blueprint.get("/")
def home() -> str:
    """The home page, for the category that was asked for."""
    number = asked.category(Category.MYSTERY)
    assert number is not None  # noqa: S101 (there is a default)
    try:
        shelf = recommended(number)
    except UnknownCategory as error:
        raise asked.NoSuchCategory(str(number), error.known) from error
    known = number in set(Category)
    label = Category(number).label if known else f"Category {number}"
    return render_template("home.html", shelf=shelf, category=number, label=label)
