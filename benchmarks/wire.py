"""Unary gRPC calls, written to the socket as they are: a client that costs less than what it measures."""

import asyncio
import struct
from typing import Self

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8  # RFC 9113, section 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
START = struct.Struct(">HBBBI")  # of a frame: its length, kind, flags and stream
MOST = 2**31 - 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A literal header field (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


class Wire(asyncio.Protocol):
    """A connection to a gRPC server; calls one method with one message."""

    def __init__(self, method: str, message: bytes, timeout_s: float) -> None:
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": f"{timeout_s * 1e3:.0f}m",
        }
        self._head = b"".join(header(name.encode(), value.encode()) for name, value in fields.items())
        self._body = struct.pack(">BI", 0, len(message)) + message
        self._timeout_s = timeout_s
        self._stream = 1
        self._calls: dict[int, asyncio.Future[str]] = {}
        self._answered: set[int] = set()
        self._received = b""
        self.is_going = False

    @classmethod
    async def connect(cls, port: int, method: str, message: bytes, timeout_s: float) -> Self:
        """A connection to a server on this machine."""
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: cls(method, message, timeout_s), "127.0.0.1", port)
        return wire

    async def call(self) -> str:
        """Call once: "good" when a message came back in time, else what came instead."""
        stream, self._stream = self._stream, self._stream + 2
        future = self._calls[stream] = asyncio.get_running_loop().create_future()
        head = frame(HEADERS, END_HEADERS, stream, self._head)
        self._transport.write(head + frame(DATA, END_STREAM, stream, self._body))
        try:
            return await asyncio.wait_for(future, self._timeout_s)
        except TimeoutError:
            self._transport.write(frame(RESET, 0, stream, struct.pack(">I", 8)))
            return "late"
        finally:
            self._calls.pop(stream, None)
            self._answered.discard(stream)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the windows as wide as they go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, MOST))
        self._transport.write(PREFACE + settings + frame(WINDOW, 0, 0, struct.pack(">I", MOST - 65535)))

    def connection_lost(self, _: Exception | None) -> None:
        """Whatever was asked for has no answer."""
        self.is_going = True
        for stream in [*self._calls]:
            self._finish(stream, "lost")

    def data_received(self, data: bytes) -> None:
        """Take the frames that have come whole."""
        received, place = self._received + data, 0
        while len(received) - place >= START.size:
            high, low, kind, flags, stream = START.unpack_from(received, place)
            end = place + START.size + (high << 8 | low)
            if end > len(received):
                break
            self._take(kind, flags, stream & MOST, received[place + START.size : end])
            place = end
        self._received = received[place:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._answered.add(stream)
        elif kind == HEADERS and flags & END_STREAM:
            self._finish(stream, "good" if stream in self._answered else "refused")
        elif kind == RESET:
            self._finish(stream, "reset")
        elif kind in {SETTINGS, PING} and not flags & ACK:
            self._transport.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == GOAWAY:
            self.is_going = True

    def _finish(self, stream: int, what: str) -> None:
        call = self._calls.get(stream)
        if call is not None and not call.done():
            call.set_result(what)
