"""gunicorn's threaded worker, ending so that no client loses a request that it sent."""

import ctypes
import math
import signal
import socket
import struct
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

SILENT_S = 1.0
SO_ATTACH_FILTER = 26
BPF_RETURN = 0x06


class GentleWorker(ThreadWorker):
    """Drains, closes the listener, finishes what is in flight, and closes connections that send nothing."""

    def drain(self, drain_s: float, grace_s: float) -> None:
        """Serve for drain_s more, asking clients to connect again; then end within grace_s."""
        self.max_keepalived = 0  # each answer says "Connection: close" from here on
        self.cfg.set("graceful_timeout", math.ceil(grace_s))
        _later(drain_s, self.handle_exit, signal.SIGTERM, None)
        _later(drain_s + SILENT_S, self.method_queue.defer, self._hang_up_on_silent)

    def init_process(self) -> None:
        """Remember the connections, for the end."""
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        super().init_process()

    def enqueue_req(self, conn: Any) -> None:
        """Serve a connection."""
        self._connections.add(conn)
        super().enqueue_req(conn)

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """Begin or stop to accept; at the end, close the listener at once instead of after the grace time."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                _let_nobody_connect(listener)
                self._accept_all(listener)
                listener.close()

    def run(self) -> None:
        """Serve, then hang up on all: a thread that still waits for a client would hold the process."""
        super().run()
        for connection in self._connections:
            _hang_up(connection)

    def _accept_all(self, listener: Any) -> None:
        """Take who has connected already: closing the listener would reset them."""
        taken = -1
        while self.nr_conns != taken:
            taken = self.nr_conns
            self.accept(listener)

    def _hang_up_on_silent(self) -> None:
        """A browser opens connections that it may never use; nobody waits for an answer on them."""
        for connection in self._connections:
            if not connection.initialized:
                _hang_up(connection)


def _let_nobody_connect(listener: Any) -> None:
    """Drop what new clients send, so that nobody connects between the last accept and the close: they try
    again a second later, and are refused. A filter of Linux (man 7 socket); the connections that there are
    do not have it.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))
    with suppress(OSError):
        pointer = struct.pack("HL", 1, ctypes.addressof(program))
        listener.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)


def _later(delay_s: float, call: Callable[..., Any], *values: Any) -> None:
    timer = threading.Timer(delay_s, call, values)
    timer.daemon = True  # the process need not wait for it
    timer.start()


def _hang_up(connection: Any) -> None:
    with suppress(OSError):
        connection.sock.shutdown(socket.SHUT_RDWR)
