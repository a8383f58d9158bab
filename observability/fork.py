"""Restarts telemetry in a forked child, with its own threads and locks."""

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What has threads or locks."""

    def hold(self) -> None:
        """Before the fork."""
        ...

    def release(self) -> None:
        """After it, in the parent."""
        ...

    def begin(self) -> None:
        """After it, in the child."""
        ...


def attach(forked: Forked) -> None:
    """Call its three methods at each fork, for as long as it lives."""
    reference = weakref.ref(forked)

    def call(name: str) -> None:
        if (found := reference()) is not None:
            getattr(found, name)()

    os.register_at_fork(
        before=lambda: call("hold"),
        after_in_parent=lambda: call("release"),
        after_in_child=lambda: call("begin"),
    )
