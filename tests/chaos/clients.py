"""Clients of the shop that are no people."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.chaos.town import Town

HALF = b"GET /static/shop.css HTTP/1.1\r\nHost: shop\r\nX-Slow: "
WHOLE = b"GET /static/shop.css HTTP/1.1\r\nHost: shop\r\n\r\n"
CLIENTS = 20  # with the people, below the connections that one client may have


@contextmanager
def slow(town: Town) -> Iterator[None]:
    """They send a byte now and then, or nothing more, or ask and do not read."""
    end = threading.Event()
    with ExitStack() as stack:
        clients = [stack.enter_context(_connected(town)) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            client.sendall(WHOLE * 50 if number % 3 == 0 else HALF)

        def trickle() -> None:
            while not end.wait(0.2):
                for client in clients[1::3]:
                    with suppress(OSError):
                        client.send(b"a")

        thread = threading.Thread(target=trickle)
        thread.start()
        yield
        end.set()
        thread.join()


@contextmanager
def resetting(town: Town) -> Iterator[None]:
    """They ask, and reset the connection before they have their answer, or in the middle of their request."""
    end = threading.Event()

    def reset() -> None:
        number = 0
        while not end.wait(0.005):
            number += 1
            with suppress(OSError), _connected(town) as client:
                client.sendall(WHOLE if number % 2 else HALF)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=reset)
    thread.start()
    yield
    end.set()
    thread.join()


def _connected(town: Town) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(town.pair.url.rpartition(":")[2])), timeout=5)
