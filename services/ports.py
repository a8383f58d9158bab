"""Ports to listen on: one that is taken is reported with its variable."""

import socket


class PortTaken(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """The port cannot be listened on; the message is one line that says what to do."""


def require_free(host: str, port: int, variable: str) -> None:
    """Raise PortTaken when a service could not listen on that port (0 is any, and always free)."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))  # without listen: a client that connects meanwhile is refused, not reset
    except OSError as error:
        raise PortTaken(
            f"{variable}: cannot listen on port {port} of {host} ({error.strerror}): "
            f"stop what uses it, or set {variable} to a free port"
        ) from error
