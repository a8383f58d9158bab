"""Checks of arguments: wrong use is an error at once, which says what must be, and what was given."""

import logging
import re
import ssl
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any

import grpc

from observability.bearer import TOKEN

MAX_KEYS = 24  # with what we set ourselves, a span has fewer attributes than any limit that leaves it alone
PATH = re.compile(r"/[^/\s]+/[^/\s]+")
CODES = frozenset(code.name for code in grpc.StatusCode)


def must(is_right: bool, name: str, what: str, got: object) -> None:
    """Raise ValueError unless the argument is right."""
    if not is_right:
        raise ValueError(f"{name} must be {what}, got {got!r}")


def seconds(name: str, got: object) -> None:
    """Raise ValueError unless it is a number of seconds, at least 0."""
    is_number = isinstance(got, int | float) and not isinstance(got, bool)
    must(is_number and got >= 0, name, "a number of seconds, at least 0", got)  # type: ignore[operator]


def one_of(name: str, allowed: Collection[str], got: object) -> None:
    """Raise ValueError unless it is one of these."""
    must(got in allowed, name, f"one of {', '.join(allowed)}", got)


def workers(got: object) -> None:
    """Raise ValueError unless it is a number of threads."""
    must(type(got) is int and got >= 0, "workers", "a number of threads, at least 0", got)


def label(values: object, of: object) -> None:
    """Raise ValueError unless they are the values of a label and the function that chooses one of them."""
    are_texts = isinstance(values, Set) and all(isinstance(each, str) for each in values)
    must(are_texts, "values", "a set of texts", values)
    must(callable(of), "of", "a function", of)


def method(path: object, codes: Iterable[object]) -> None:
    """Raise ValueError unless it is the path of a method, and the codes are gRPC's names."""
    must(isinstance(path, str) and PATH.fullmatch(path) is not None, "path", "/package.Service/Method", path)
    for code in codes:
        must(code in CODES, "codes", f"names of {', '.join(sorted(CODES))}", code)


def level(got: object) -> None:
    """Raise ValueError unless it is one of logging's levels."""
    names = logging.getLevelNamesMapping()
    must(got in names or isinstance(got, int), "level", f"one of {', '.join(names)}", got)


def hooks(**given: object) -> None:
    """Raise ValueError unless each is a function, or None."""
    for name, hook in given.items():
        must(hook is None or callable(hook), name, "a function", hook)


def access(ssl_context: Any, tokens: Any) -> None:
    """Raise ValueError unless they are what guards /metrics, or None; no token is shown."""
    is_context = ssl_context is None or callable(ssl_context) or isinstance(ssl_context, ssl.SSLContext)
    must(is_context, "ssl_context", "an ssl.SSLContext or a function that returns one", ssl_context)
    if tokens is None or callable(tokens):
        return
    is_list = isinstance(tokens, Collection) and not isinstance(tokens, str | bytes)
    are_good = is_list and all(isinstance(token, str) and TOKEN.fullmatch(token) for token in tokens)
    what = "a list of bearer tokens (letters, digits and -._~+/, then =) or a function that returns one"
    must(are_good and len(tokens) > 0, "tokens", what, type(tokens))


def public_endpoint(got: object) -> None:
    """Raise ValueError unless it is True, False, None, or a function."""
    is_right = got is None or isinstance(got, bool) or callable(got)
    must(is_right, "public_endpoint", "True, False or a function", got)


def flag(name: str, got: object) -> None:
    """Raise ValueError unless it is True or False."""
    must(isinstance(got, bool), name, "True or False", got)


def bounds(name: str, got: Any) -> None:
    """Raise ValueError unless they are the upper bounds of a histogram of durations."""
    numbers = list(got) if isinstance(got, Iterable) else []
    are_numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in numbers)
    is_right = bool(numbers) and are_numbers and numbers[0] > 0 and numbers == sorted(set(numbers))
    must(is_right, name, "upper bounds in seconds, each above the last", got)


def options(service: Any, exclude: Any, extra_labels: Any, metadata_attributes: Any) -> None:
    """Raise ValueError unless the options of Telemetry are what they must be."""
    must(isinstance(service, str) and bool(service), "service", "the service's name", service)
    must(exclude is None or callable(exclude), "exclude", "a condition of opentelemetry's filters", exclude)
    are_labels = isinstance(extra_labels, Mapping) and all(
        hasattr(each, "of") for each in extra_labels.values()
    )
    must(extra_labels is None or are_labels, "extra_labels", "an ExtraLabel for each name", extra_labels)
    is_list = isinstance(metadata_attributes, Collection) and not isinstance(metadata_attributes, str | bytes)
    must(
        is_list and len(metadata_attributes) <= MAX_KEYS,
        "metadata_attributes",
        f"a list of at most {MAX_KEYS} keys of metadata",
        metadata_attributes,
    )
