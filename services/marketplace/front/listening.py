"""How a listening socket is closed without a reset for those who connect at that moment."""

import ctypes
import socket
import struct
from contextlib import suppress

SO_ATTACH_FILTER = 26
BPF_RETURN = 0x06


def let_nobody_connect(listener: socket.socket) -> None:
    """Drop what new clients send, so that nobody connects between the last accept and the close: they try
    again a second later, and are refused. A filter of Linux (man 7 socket); the connections that there are
    do not have it.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))
    with suppress(OSError):
        pointer = struct.pack("HL", 1, ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
