"""gunicorn's worker process of the shop: the front, and the threads that answer what it has read.

gunicorn parses the requests and writes the responses; the process that starts this one replaces it when it
ends or freezes.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from gunicorn import http
from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData
from gunicorn.workers.base import Worker

from services.marketplace.front.connection import ARRIVED, Connection, Refused
from services.marketplace.front.front import Front, Limits

WRITE_S = 5.0
SWITCH_S = 0.0005  # the front gives the interpreter away at each read, and waits this long to get it back
WAITED = Refused(HTTPStatus.SERVICE_UNAVAILABLE, "waited", hang_up=False)
MEANINGLESS = (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


class ShopWorker(Worker):
    """Serves until it is drained."""

    front: Front

    def init_signals(self) -> None:
        """Ctrl-C is for the process above, which then asks this one to stop. SIGHUP has no meaning yet."""
        super().init_signals()
        for number in (signal.SIGINT, signal.SIGHUP, *MEANINGLESS):
            signal.signal(number, signal.SIG_IGN)

    def open(self, limits: Limits, wait_s: float, refused: Callable[[str], None]) -> None:
        """Make the front, before run(); a page's request waits for a thread for at most wait_s seconds."""
        self._wait_s, self._refused = wait_s, refused
        self._is_draining = False
        self._end = float("inf")
        self.front = Front(self.sockets, limits, self._answer, refused)

    def drain(self, drain_s: float, grace_s: float) -> None:
        """Serve for drain_s more, asking clients to connect again; then end within grace_s."""
        self._is_draining = True  # each answer says "Connection: close" from here on
        self._end = time.monotonic() + drain_s
        self._grace_s = grace_s
        self.front.wake()

    def run(self) -> None:
        """Serve, then finish what is in flight."""
        sys.setswitchinterval(SWITCH_S)
        while self.alive and time.monotonic() < self._end and self.ppid == os.getppid():
            self._turn()
        self.alive = False
        self.front.stop_listening()
        end = time.monotonic() + (self._grace_s if self._is_draining else 0)
        while self.front.connections and time.monotonic() < end:
            self._turn()
        self.front.close()

    def _turn(self) -> None:
        self.notify()
        self.front.turn()

    def _answer(self, connection: Connection) -> None:
        """Answer one request, in a thread of its lane."""
        keep = False
        try:
            connection.sock.settimeout(WRITE_S)
            if time.perf_counter() - connection.arrived_s > self._wait_s:
                self._refused(WAITED.reason)
                connection.sock.sendall(WAITED.response())
                keep = True
            else:
                keep = self._respond(connection)
        except (OSError, NoMoreData, StopIteration):
            pass  # the client has gone, or what it sent is not the request that it announced
        finally:
            self.front.done(connection, keep)

    def _respond(self, connection: Connection) -> bool:
        """Whether the client may ask again."""
        request = response = None
        try:
            request = next(http.get_parser(self.cfg, [connection.request], connection.address))
            response, environ = wsgi.create(
                request, connection.sock, connection.address, connection.server, self.cfg
            )
            environ["wsgi.multithread"] = True
            environ[ARRIVED] = connection.arrived_s
            if self._is_draining:
                response.force_close()
            start_response: Any = response.start_response
            _write(response, self.wsgi(environ, start_response))
        except (OSError, NoMoreData, StopIteration):
            raise
        except Exception as error:
            if request is None:
                self._refused("malformed")
            if response is not None and response.headers_sent:
                self.log.exception("a response broke off")
            else:
                self.handle_error(request, connection.sock, connection.address, error)
            return False
        return not response.should_close()


def _write(response: Any, body: Iterable[bytes]) -> None:
    try:
        for chunk in body:
            response.write(chunk)
        response.close()
    finally:
        if hasattr(body, "close"):
            body.close()
