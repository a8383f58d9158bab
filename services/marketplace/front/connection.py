"""One client's connection: what it has sent, taken apart into whole requests (RFC 9112)."""

import re
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import Any

MOST_HEAD = 32 * 1024
MOST_BODY = 64 * 1024  # the shop takes none; what comes all the same must not fill the memory
READ = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
CODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
ARRIVED = "marketplace.arrived_s"  # in a request's environment: when all of it had come (perf_counter)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Refused(Exception):  # noqa: N818 (what is done with a request, and no error of the program)
    """The request is answered with this status and goes no further; reason is the counter's label."""

    def __init__(self, status: HTTPStatus, reason: str, *, hang_up: bool = True) -> None:
        super().__init__(reason)
        self.status, self.reason, self.hang_up = status, reason, hang_up

    def response(self) -> bytes:
        """The bytes of the answer."""
        text = f"{self.status} {self.status.phrase}"
        retry = "Retry-After: 1\r\n" if self.status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        connection = "close" if self.hang_up else "keep-alive"
        return (
            f"HTTP/1.1 {text}\r\n{retry}Connection: {connection}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(text) + 1}\r\n\r\n{text}\n"
        ).encode()


class Connection:
    """A client; its address is (host, port), server is the address that it connected to.

    deadline is when it is hung up on (time.monotonic), None while a thread answers it. arrived_s is when
    its request was whole.
    """

    def __init__(self, sock: socket.socket, address: Any, server: Any, deadline: float) -> None:
        sock.setblocking(False)
        self.sock, self.address, self.server = sock, address, server
        self.deadline: float | None = deadline
        self.arrived_s = 0.0
        self.request = b""
        self.is_over = False  # it has had its last answer, and only its end is waited for
        self._buffer = bytearray()
        self._is_awaited = False

    @property
    def is_silent(self) -> bool:
        """Whether nothing of a request has come."""
        return not self._buffer

    def receive(self) -> bool:
        """Take what has come; False when the client has hung up."""
        try:
            data = self.sock.recv(READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not self.is_over:
            self._buffer += data
        return bool(data)

    def next_request(self) -> bool:
        """Whether a whole request has come, which is in `request` then. Raises Refused."""
        head = self._buffer.find(END_OF_HEAD)
        if head > MOST_HEAD or (head < 0 and len(self._buffer) > MOST_HEAD):
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large")
        if head < 0:
            return False
        end = head + len(END_OF_HEAD) + self._length(bytes(self._buffer[: head + 2]))
        if len(self._buffer) < end:
            return False
        self.request = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._is_awaited = False
        return True

    def _length(self, head: bytes) -> int:
        """The length of the body. Without a Content-Length there is none: the shop takes no chunks."""
        if CODED.search(head):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "length_required")
        match = LENGTH.search(head)
        digits = match[1].lstrip(b"0") if match else b""
        if len(digits) > len(str(MOST_BODY)) or int(digits or b"0") > MOST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")
        if digits and not self._is_awaited and EXPECTS.search(head):
            self._is_awaited = True
            self.send(CONTINUE)
        return int(digits or b"0")

    def send(self, data: bytes) -> bool:
        """Send a few bytes at once, or not at all; False when the client does not take them."""
        try:
            return self.sock.send(data) == len(data)
        except OSError:
            return False

    def end(self) -> None:
        """Send no more. The socket stays open: closed, it would take the answer from who still sends."""
        self.is_over = True
        self._buffer.clear()
        with suppress(OSError):
            self.sock.setblocking(False)
            self.sock.shutdown(socket.SHUT_WR)
