"""What a fault does to a page: within the request, as telemetry sees it."""

import threading

from flask import Flask, request

from services.faults.switch import Switch

STUCK_S = 60.0


class PageFailed(Exception):  # noqa: N818 (it is what a fault does, and no error of the program)
    """The page was made to fail."""


def install(app: Flask, switch: Switch, threads: int) -> None:
    """Let faults at the application's pages; health and static files are not affected. Call it last."""
    app.before_request(_Pages(switch, threads).meet)


class _Pages:
    def __init__(self, switch: Switch, threads: int) -> None:
        self._switch, self._threads = switch, threads
        self._lock = threading.Lock()
        self._held = 0

    def meet(self) -> None:
        if request.blueprint == "health" or request.endpoint == "static":
            return
        if slow := self._switch.drawn("page-slow"):
            slow.healed.wait(slow.ms / 1e3)
        self._hold()
        if self._switch.drawn("page-errors"):
            raise PageFailed("the page could not be made")

    def _hold(self) -> None:
        stuck = self._switch.active("stuck")
        if stuck is None:
            return
        with self._lock:
            if self._held >= round(stuck.share * self._threads):
                return
            self._held += 1
        stuck.healed.wait(STUCK_S)
        with self._lock:
            self._held -= 1
