"""Whether a service answers as it should once it is ready."""

import socket
from http.client import HTTPConnection, HTTPException

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tools.run.ports import Port, reachable

TIMEOUT_S = 0.5
CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]


def listens(port: Port) -> bool:
    """Whether the port takes connections."""
    try:
        socket.create_connection((reachable(port.host), port.number), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def serves_grpc(port: Port) -> bool:
    """Whether gRPC's health service says SERVING."""
    # A channel that found the port closed would wait a second before it tries again.
    if not listens(port):
        return False
    with grpc.insecure_channel(port.address, CHANNEL_OPTIONS) as channel:
        try:
            check = HealthStub(channel).Check  # type: ignore[attr-defined]
            answer = check(HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == HealthCheckResponse.SERVING)


def serves_http(port: Port) -> bool:
    """Whether ``/readyz`` answers 200."""
    connection = HTTPConnection(reachable(port.host), port.number, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200  # noqa: PLR2004
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
