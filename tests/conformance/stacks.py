"""What the cases are run on: bare grpcio, interceptors that do nothing, and this package."""

from typing import Any

import grpc

from observability.testing import MemoryTelemetry
from tests.conformance.promises import GAUGES, LOGS, METRICS, SPANS
from tests.conformance.told import Side, told_by_ours


class Bare:
    """grpcio alone."""

    name = "bare"

    def server(self, flavour: str) -> list[Any]:
        return []

    def channel(self, bare: grpc.Channel, target: str) -> grpc.Channel:
        return bare

    def aio_client(self, target: str) -> list[Any]:
        return []


class Ours(Bare):
    """This package; a telemetry for each server and each channel."""

    name = "ours"

    def __init__(self) -> None:
        self.servers: list[MemoryTelemetry] = []
        self.clients: list[MemoryTelemetry] = []

    def server(self, flavour: str) -> list[Any]:
        telemetry = MemoryTelemetry("server")
        self.servers.append(telemetry)
        interceptors: list[Any] = (
            telemetry.server_interceptors() if flavour == "sync" else telemetry.aio_server_interceptors()
        )
        return interceptors

    def channel(self, bare: grpc.Channel, target: str) -> grpc.Channel:
        return grpc.intercept_channel(bare, *self._client().client_interceptors(target=target))

    def aio_client(self, target: str) -> list[Any]:
        interceptors: list[Any] = self._client().aio_client_interceptors(target=target)
        return interceptors

    def _client(self) -> MemoryTelemetry:
        self.clients.append(MemoryTelemetry("client"))
        return self.clients[-1]

    def signals(self, flavour: str) -> frozenset[str]:
        """Which signals there are on servers and channels of that flavour."""
        return frozenset({SPANS, METRICS, GAUGES, LOGS})

    def told(self, side: str) -> Side:
        """What its telemetry told."""
        return told_by_ours(self.servers if side == "server" else self.clients, side)


class Idle(Bare):
    """Interceptors that do nothing: what differs here is grpcio's own machinery for interceptors."""

    name = "idle"

    def channel(self, bare: grpc.Channel, target: str) -> grpc.Channel:
        return grpc.intercept_channel(bare, IdleClient())

    def aio_client(self, target: str) -> list[Any]:
        return [kind() for kind in (IdleUnaryUnary, IdleUnaryStream, IdleStreamUnary, IdleStreamStream)]


class IdleClient(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Hands on."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details, request)

    intercept_unary_stream: Any = intercept_unary_unary
    intercept_stream_unary: Any = intercept_unary_unary
    intercept_stream_stream: Any = intercept_unary_unary


async def _hand_on(self: Any, continuation: Any, client_call_details: Any, request: Any) -> Any:
    return await continuation(client_call_details, request)


class IdleUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    """Hands on."""

    intercept_unary_unary: Any = _hand_on


class IdleUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    """Hands on."""

    intercept_unary_stream: Any = _hand_on


class IdleStreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    """Hands on."""

    intercept_stream_unary: Any = _hand_on


class IdleStreamStream(grpc.aio.StreamStreamClientInterceptor):
    """Hands on."""

    intercept_stream_stream: Any = _hand_on
