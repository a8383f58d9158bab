"""How a listening socket is closed without a reset for those who connect at that moment."""

import ctypes
import socket
import struct
from contextlib import suppress

SO_ATTACH_FILTER = 26
# Of a TCP segment: its flags, without all but SYN and ACK; a SYN alone is dropped, all else is kept (BPF).
NO_SYN = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)


def let_nobody_connect(listener: socket.socket) -> None:
    """Drop what a new client sends first, so that nobody connects between the last accept and the close: it
    tries again a second later, and is refused. Who has begun to connect goes on. A filter of Linux (man 7
    socket); the connections that there are do not have it.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in NO_SYN))
    with suppress(OSError):
        pointer = struct.pack("HL", len(NO_SYN), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
