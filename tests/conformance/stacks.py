"""What the cases are run on: bare grpcio, interceptors that do nothing, and this package."""

from typing import Any, Protocol

import grpc

from observability.testing import MemoryTelemetry
from tests.conformance.case import MANY
from tests.conformance.outcomes import GAUGES, LOGS, METRICS, SPANS, Side, recorded_by_ours


class Stack(Protocol):
    """What is put between gRPC and the application."""

    name: str

    def server(self, flavour: str) -> list[Any]:
        """Interceptors for a server; flavour is "sync", "aio" or "plain" (asyncio, with plain handlers)."""
        ...

    def channel(self, bare: grpc.Channel, target: str) -> grpc.Channel:
        """A channel around a bare one."""
        ...

    def aio_client(self, target: str) -> list[Any]:
        """Interceptors for an asyncio channel."""
        ...


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

    def recorded(self, side: str) -> Side:
        """What its telemetry recorded."""
        return recorded_by_ours(self.servers if side == "server" else self.clients, side)


class EveryKind(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """An interceptor of all four kinds, which hands on."""

    def unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """A call of one response."""
        return continuation(details, request)

    stream: Any = unary

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """One response."""
        return self.unary(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Many responses."""
        return self.stream(continuation, client_call_details, request)

    intercept_stream_unary: Any = intercept_unary_unary
    intercept_stream_stream: Any = intercept_unary_stream


def every_aio_kind(unary: Any, stream: Any) -> list[Any]:
    """Interceptors of all four kinds, around two functions."""
    kinds = {
        "unary_unary": grpc.aio.UnaryUnaryClientInterceptor,
        "unary_stream": grpc.aio.UnaryStreamClientInterceptor,
        "stream_unary": grpc.aio.StreamUnaryClientInterceptor,
        "stream_stream": grpc.aio.StreamStreamClientInterceptor,
    }
    functions = {kind: staticmethod(stream if kind in MANY else unary) for kind in kinds}
    return [type(kind, (base,), {f"intercept_{kind}": functions[kind]})() for kind, base in kinds.items()]


async def aio_pass(continuation: Any, details: Any, request: Any) -> Any:
    return await continuation(details, request)


class Idle(Bare):
    """Interceptors that do nothing: what differs here is grpcio's own machinery for interceptors."""

    name = "idle"

    def channel(self, bare: grpc.Channel, target: str) -> grpc.Channel:
        return grpc.intercept_channel(bare, EveryKind())

    def aio_client(self, target: str) -> list[Any]:
        return every_aio_kind(aio_pass, aio_pass)
