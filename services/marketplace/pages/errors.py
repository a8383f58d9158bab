"""The pages for requests that cannot be answered."""

from flask import Flask, current_app, render_template
from werkzeug.exceptions import HTTPException

from services.feed import Category
from services.marketplace.pages.asked import BadField, NoSuchCategory
from services.marketplace.store import Unavailable

Answer = tuple[str, int]
RETRY_AFTER_S = 1


def install(app: Flask) -> None:
    """Add them to the application."""
    app.register_error_handler(NoSuchCategory, _no_such_category)
    app.register_error_handler(BadField, _bad_field)
    app.register_error_handler(Unavailable, _unavailable)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _no_such_category(error: NoSuchCategory) -> Answer:
    known = [Category[name] for name in error.known if name in Category.__members__] or list(Category)
    return render_template("unknown_category.html", asked=error.asked, known=known), 404


def _bad_field(error: BadField) -> Answer:
    return render_template("error.html", title="That does not work", message=str(error)), 400


def _unavailable(error: Unavailable) -> tuple[str, int, dict[str, str]]:
    current_app.logger.warning("page without the database: %s", error.reason)
    message = "The list of books cannot be read now. Please try again in a moment."
    page = render_template("error.html", title="Back in a moment", message=message)
    return page, 503, {"Retry-After": str(RETRY_AFTER_S)}


def _http(error: HTTPException) -> tuple[str, int, list[tuple[str, str]]]:
    kept = [(name, value) for name, value in error.get_headers() if name == "Allow"]
    page = render_template("error.html", title=error.name, message=error.description)
    return page, error.code or 500, kept


def _unexpected(error: Exception) -> Answer:
    current_app.logger.error("a page failed", exc_info=error)
    message = "The shop failed to show this page. The trace below shows why."
    return render_template("error.html", title="Something broke", message=message), 500
