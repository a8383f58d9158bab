"""Addresses and ports on this machine."""

import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from tools.run.failure import PairError


class Port(NamedTuple):
    """A port to listen on, and the variable that names it."""

    variable: str
    host: str
    number: int

    @property
    def address(self) -> str:
        """``host:port``, as one calls it."""
        host = reachable(self.host)
        return f"[{host}]:{self.number}" if ":" in host else f"{host}:{self.number}"


def require_free(ports: Iterable[Port]) -> None:
    """Raise PairError for the first port on which nobody could listen now."""
    with ExitStack() as held:
        for port in ports:
            listener = held.enter_context(
                socket.socket(socket.AF_INET6 if ":" in port.host else socket.AF_INET)
            )
            _listen(listener, port)


def reachable(host: str) -> str:
    """The address to call for what listens on host, which may stand for every address of the machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _listen(listener: socket.socket, port: Port) -> None:
    if port.number == 0:
        raise PairError(f"{port.variable}: 0 is not allowed for the pair; set {port.variable} to a port")
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((port.host, port.number))
        listener.listen()
    except OSError as error:
        raise PairError(
            f"{port.variable}: cannot listen on port {port.number} of {port.host} ({error.strerror}); "
            f"stop what uses it, or set {port.variable} to a free port"
        ) from error
