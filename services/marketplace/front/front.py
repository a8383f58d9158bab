"""The shop's front door: one thread that accepts, reads whole requests, and refuses what is too much.

A thread that makes pages gets a request when all of it has come, and never waits for a client to send.
"""

import errno
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Any

from services.marketplace.front.connection import Connection, Refused
from services.marketplace.front.lane import Lane
from services.marketplace.front.listening import let_nobody_connect
from services.marketplace.front.proxies import Proxies, is_one

BUSY = Refused(HTTPStatus.SERVICE_UNAVAILABLE, "queue_full", hang_up=False)
PROBES = (b"GET /livez ", b"GET /readyz ")
MOST_PROBES = 16  # that wait for the one thread that answers them
IDLE_S = 5.0  # for a client that may ask again
CONNECTING_S = 0.1  # at the stop, for a client whose connection is half made
SILENT_S = 1.0  # at the stop, for a client that has connected and says nothing
LINGER_S = 1.0  # for a client to take its last answer and hang up
LOOK_S = 0.25  # how often deadlines are looked at
BATCH = 64  # connections accepted before those that are there get a turn again
FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True)
class Limits:
    """What the front allows: threads that make pages, requests that wait for them, connections, seconds.

    What comes through one of the proxies is of many clients: client_connections is not for these.
    """

    threads: int
    queue: int
    connections: int
    client_connections: int
    request_s: float
    proxies: Proxies = ()


class Front:
    """Reads from all clients at once. All methods but done() and wake() are for one thread.

    answer is called with a connection whose request has come, in a thread, and ends with done(). refused is
    called with a reason for each request or connection that is turned away.
    """

    def __init__(
        self,
        listeners: Sequence[Any],
        limits: Limits,
        answer: Callable[[Connection], None],
        refused: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._refused = refused
        self.connections: dict[socket.socket, Connection] = {}
        self._of_client: Counter[str] = Counter()
        self.pages = Lane("page", limits.threads, limits.queue, answer)
        self._probes = {start: Lane("probe", 1, MOST_PROBES, answer) for start in PROBES}
        self._answered: SimpleQueue[tuple[Connection, bool]] = SimpleQueue()
        self._looked = time.monotonic()
        self._poller = selectors.DefaultSelector()
        self._listeners = list(listeners)
        self._bell, self._rung = socket.socketpair()
        for end in (self._bell, self._rung):
            end.setblocking(False)
        self._poller.register(self._rung, selectors.EVENT_READ, self._wake_up)
        for listener in listeners:
            listener.setblocking(False)
            self._poller.register(listener, selectors.EVENT_READ, partial(self._accept, listener))

    def turn(self) -> None:
        """Wait for a moment, at most, and do what has become due."""
        for key, _ in self._poller.select(LOOK_S):
            key.data()
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            for connection in [*self.connections.values()]:
                if connection.deadline is not None and connection.deadline < self._looked:
                    self._expire(connection)

    def wake(self) -> None:
        """End the waiting of turn(), from any thread or signal handler."""
        with suppress(OSError):  # full: it wakes anyway
            self._bell.send(b"\0")

    def done(self, connection: Connection, keep: bool) -> None:
        """The request is answered; keep says whether the client may ask again."""
        self._answered.put((connection, keep))
        self.wake()

    def stop_listening(self) -> None:
        """Accept clients that have connected, and no more: closing the listener alone would reset them."""
        for listener in self._listeners:
            let_nobody_connect(listener.sock)
            time.sleep(CONNECTING_S)
            while self._accept(listener):
                pass
            self._poller.unregister(listener)
            listener.close()
        self._listeners.clear()
        end = time.monotonic() + SILENT_S
        for connection in self.connections.values():
            if connection.deadline is not None and connection.is_silent:
                connection.deadline = min(connection.deadline, end)

    def close(self) -> None:
        """Hang up on all."""
        for connection in [*self.connections.values()]:
            self._close(connection)
        self._poller.close()
        self._bell.close()
        self._rung.close()

    def _wake_up(self) -> None:
        with suppress(OSError):
            self._rung.recv(4096)
        with suppress(Empty):
            while True:
                self._take_back(*self._answered.get_nowait())

    def _accept(self, listener: Any) -> bool:
        """Accept the clients that wait; False when none is left."""
        for _ in range(BATCH):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in FULL:  # the system has nothing left: those that are there come first
                    self._refused("connections")
                    time.sleep(0.01)
                    return False
                continue  # a client that has gone again
            self._let_in(Connection(sock, address, listener.getsockname(), self._until_request()))
        return True

    def _let_in(self, connection: Connection) -> None:
        client = connection.address[0]
        is_full = self._of_client[client] >= self._limits.client_connections
        if is_full and not is_one(self._limits.proxies, client):
            self._refused("client_connections")
            connection.sock.close()
        elif len(self.connections) >= self._limits.connections:
            self._refused("connections")
            connection.sock.close()
        else:
            self._of_client[client] += 1
            self.connections[connection.sock] = connection
            self._listen_to(connection)

    def _until_request(self) -> float:
        return time.monotonic() + self._limits.request_s

    def _listen_to(self, connection: Connection) -> None:
        self._poller.register(connection.sock, selectors.EVENT_READ, partial(self._read, connection))

    def _read(self, connection: Connection) -> None:
        was_silent = connection.is_silent
        if not connection.receive():
            self._close(connection)
            return
        if connection.is_over:
            return
        if was_silent:
            connection.deadline = self._until_request()
        if self._is_handed_over(connection):
            self._poller.unregister(connection.sock)

    def _is_handed_over(self, connection: Connection) -> bool:
        """Whether a whole request has come, and a thread answers it."""
        try:
            while connection.next_request():
                connection.deadline = None
                connection.arrived_s = time.perf_counter()
                if self._lane(connection.request).offer(connection):
                    return True
                self._refuse(connection, BUSY)
        except Refused as refusal:
            self._refuse(connection, refusal)
        return False

    def _lane(self, request: bytes) -> Lane[Connection]:
        """Probes have their own threads: they are answered whatever the pages do."""
        return next((lane for start, lane in self._probes.items() if request.startswith(start)), self.pages)

    def _refuse(self, connection: Connection, refusal: Refused) -> None:
        self._refused(refusal.reason)
        is_sent = connection.send(refusal.response())
        if refusal.hang_up or not is_sent:
            self._end(connection)
        else:
            connection.deadline = time.monotonic() + IDLE_S

    def _take_back(self, connection: Connection, keep: bool) -> None:
        """The client may have sent its next request already."""
        connection.request = b""
        connection.sock.setblocking(False)
        connection.deadline = time.monotonic() + (IDLE_S if self._listeners else SILENT_S)
        if keep and self._is_handed_over(connection):
            return
        self._listen_to(connection)
        if not keep:
            self._end(connection)

    def _expire(self, connection: Connection) -> None:
        if connection.is_over or connection.is_silent:
            self._close(connection)
        else:
            self._refuse(connection, Refused(HTTPStatus.REQUEST_TIMEOUT, "timeout"))

    def _end(self, connection: Connection) -> None:
        connection.end()
        connection.deadline = time.monotonic() + LINGER_S

    def _close(self, connection: Connection) -> None:
        client = connection.address[0]
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]
        del self.connections[connection.sock]
        with suppress(KeyError, ValueError):  # a thread answers it
            self._poller.unregister(connection.sock)
        connection.sock.close()
