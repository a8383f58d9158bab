"""Ports on this machine: whether one is free, and whether what listens there is ready."""

import socket
from http import HTTPStatus
from typing import NamedTuple

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services import ports
from services.tls import Files, channel
from tools.web import ask

TIMEOUT_S = 0.5
CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]


class Port(NamedTuple):
    """A port to listen on, and the variable that names it."""

    variable: str
    host: str
    number: int

    @property
    def address(self) -> str:
        """``host:port``, to call it by."""
        host = reachable(self.host)
        return f"[{host}]:{self.number}" if ":" in host else f"{host}:{self.number}"


def require_free(*wanted: Port) -> None:
    """Raise PortTaken for the first port that is not known, is another's too, or is taken now."""
    variables: dict[int, str] = {}
    for port in wanted:
        if port.number == 0:
            raise ports.PortTaken(f"{port.variable} must be a port from 1 to 65535, got 0")
        if port.number in variables:
            raise ports.PortTaken(
                f"{port.variable} must not be the port of {variables[port.number]}, got {port.number}"
            )
        variables[port.number] = port.variable
        ports.require_free(port.host, port.number, port.variable)


def reachable(host: str) -> str:
    """The address to call for what listens on host, which may stand for every address of the machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def listens(port: Port) -> bool:
    """Whether the port takes connections."""
    try:
        socket.create_connection((reachable(port.host), port.number), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def serves_grpc(port: Port, tls: Files | None = None, name: str = "") -> bool:
    """Whether gRPC's health service says SERVING; over TLS, to a client with the files, for the name."""
    # A channel that found the port closed would wait a second before it tries again.
    return listens(port) and not health_fault(port, tls, name)


def health_fault(port: Port, tls: Files | None, name: str) -> str:
    """Why gRPC's health service does not say SERVING: its answer, or gRPC's details; "" when it does."""
    options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name)] if tls else CHANNEL_OPTIONS
    with channel(port.address, tls, options) as made:
        try:
            check = HealthStub(made).Check  # type: ignore[attr-defined]
            answer = check(HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return error.details() or str(error.code().name)
    status = answer.status
    return (
        "" if status == HealthCheckResponse.SERVING else str(HealthCheckResponse.ServingStatus.Name(status))
    )


def serves_http(port: Port) -> bool:
    """Whether ``/readyz`` answers 200."""
    try:
        return ask(f"http://{port.address}/readyz", TIMEOUT_S).status == HTTPStatus.OK
    except OSError:
        return False
