"""Classes that stand for an object of a library's: all that its public class has is handed on to it."""

from typing import Any


def handing_on(*bases: type) -> Any:
    """A base class with each public name of those classes; what is called is `self.inner`'s.

    Abstract classes have a body for some of their methods, so `__getattr__` alone would not do.
    """
    names = {name for base in bases for name in dir(base) if not name.startswith("_")}
    return type("HandingOn", bases, {name: _hand_on(name) for name in names} | {"__getattr__": _get})


def _hand_on(name: str) -> Any:
    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return getattr(self.inner, name)(*arguments, **options)

    method.__name__ = name
    return method


def _get(self: Any, name: str) -> Any:
    return getattr(self.inner, name)
