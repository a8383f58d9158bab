"""The threads of health's watchers, whose streams stay open: gRPC must not count them among its calls."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Watchers(ThreadPoolExecutor):
    """Says of each task at once that it is done.

    gRPC counts a call until its task is done: by that number it refuses calls when there are too many.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run fn on a thread."""
        super().submit(fn, *args, **kwargs)
        done: Future[Any] = Future()
        done.set_result(None)
        return done
