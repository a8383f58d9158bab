"""The books that can be recommended, held in memory by category."""

import random
from array import array
from collections.abc import Iterable

from services.feed import Book, Category

MAX_RESULTS = 100
KNOWN = tuple(category.name for category in Category)


class CategoryNotFound(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """There is no such category."""

    def __init__(self, category: int) -> None:
        super().__init__("Category not found")
        self.category = category


class InvalidRequest(Exception):  # noqa: N818
    """A field of the request has a wrong value, which the message leaves out: spans and log lines show it."""

    def __init__(self, field: str, value: int, allowed: str) -> None:
        super().__init__(f"{field} must be {allowed}")
        self.field, self.value, self.allowed = field, value, allowed


class Catalogue:
    """Ids and titles in columns, so that a million books cost little and are quick to choose from."""

    def __init__(self, books: Iterable[Book]) -> None:
        self._ids: dict[int, array[int]] = {category: array("i") for category in Category}
        self._titles: dict[int, list[str]] = {category: [] for category in Category}
        for book_id, title, _, category, _ in books:
            self._ids[category].append(book_id)
            self._titles[category].append(title)

    def recommend(self, user_id: int, category: int, max_results: int) -> list[tuple[int, str]]:
        """Id and title of at most max_results books of the category (100 if it is more), at random.

        Raises InvalidRequest when user_id or max_results is below 0, CategoryNotFound for a number that is no
        category.
        """
        for field, value in (("user_id", user_id), ("max_results", max_results)):
            if value < 0:
                raise InvalidRequest(field, value, "0 or more")
        if category not in self._ids:
            raise CategoryNotFound(category)
        ids, titles = self._ids[category], self._titles[category]
        count = min(max_results, MAX_RESULTS, len(ids))
        return [(ids[place], titles[place]) for place in random.sample(range(len(ids)), count)]
