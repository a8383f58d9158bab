"""Addresses and ports on this machine."""

import socket
from collections.abc import Iterable
from contextlib import ExitStack
from ipaddress import ip_address
from typing import NamedTuple

from services.pair.failure import PairError


class Port(NamedTuple):
    """A port that the pair is going to use, and the variable that names it."""

    variable: str
    number: int


def require_free(host: str, ports: Iterable[Port]) -> None:
    """Raise PairError for the first port on which nobody could listen now."""
    with ExitStack() as held:
        for port in ports:
            held.enter_context(_listen(host, port))


def is_free(host: str, number: int) -> bool:
    """Whether one could listen on the port now."""
    try:
        require_free(host, [Port("", number)])
    except PairError:
        return False
    return True


def reachable(host: str) -> str:
    """The address to call for what listens on host, which may stand for every address of the machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004


def join(host: str, number: int) -> str:
    """``host:port``, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _listen(host: str, port: Port) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port.number, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port.number), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PairError(
            f"{port.variable}: cannot listen on {join(host, port.number)} ({reason}); "
            f"stop what uses the port, or set {port.variable} to a free one"
        ) from error
