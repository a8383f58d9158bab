"""What a request asks for, checked: each error names the field, what it must be, and what it is."""

import re
from collections.abc import Sequence

from flask import request

from services.feed import INT32_MAX, Category

INT32_MIN = -INT32_MAX - 1
SHOWN = 60


class BadField(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """A field of the request has a wrong value."""

    def __init__(self, field: str, value: str, allowed: str) -> None:
        super().__init__(f"{field} must be {allowed}, got {value[:SHOWN]!r}")


class NoSuchCategory(Exception):  # noqa: N818
    """The category that was asked for does not exist; known are the names of those that do."""

    def __init__(self, asked: str, known: Sequence[str]) -> None:
        super().__init__(asked)
        self.asked, self.known = asked[:SHOWN], known


def category(default: Category | None = None) -> int | None:
    """The category asked for, as a number; a number may be one that does not exist. Raises NoSuchCategory."""
    asked = request.args.get("category", "").strip()
    if not asked:
        return default
    digits = re.fullmatch(r"([+-]?)0*([0-9]{1,10})", asked)
    if digits and INT32_MIN <= (number := int(digits[1] + digits[2])) <= INT32_MAX:
        return number
    try:
        return Category[re.sub(r"[\s_-]+", "_", asked).upper()]
    except KeyError:
        raise NoSuchCategory(asked, [known.name for known in Category]) from None


def known_category() -> Category | None:
    """The category asked for, which must be one of the shop's. Raises NoSuchCategory."""
    number = category()
    try:
        return None if number is None else Category(number)
    except ValueError:
        raise NoSuchCategory(str(number), [known.name for known in Category]) from None


def position(field: str) -> int | None:
    """A place in a listing, or None. Raises BadField."""
    value = request.args.get(field, "")
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) > INT32_MAX:
        raise BadField(field, value, f"a whole number from 0 to {INT32_MAX}")
    return int(value)


def words(field: str, longest: int) -> str:
    """Text of at most `longest` characters. Raises BadField."""
    value = " ".join(request.args.get(field, "").split())
    if len(value) > longest:
        raise BadField(field, value, f"at most {longest} characters")
    return value
