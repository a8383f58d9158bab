"""The asyncio server: the service, health and reflection, and how they start and stop.

One process on one event loop costs less CPU a call than a pool of threads, which contend.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from observability import Telemetry
from observability.interceptors.errors import AioErrorInterceptor
from protobufs.recommendations_pb2 import DESCRIPTOR
from protobufs.recommendations_pb2_grpc import add_RecommendationsServicer_to_server
from services.faults.switch import Switch
from services.recommendations.config import Settings
from services.recommendations.errors import to_status
from services.recommendations.faults import FaultyService
from services.recommendations.servicer import AioRecommendationService, RecommendationService

REFUSE_S = 0.2
OPTIONS = [
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share of its calls
    ("grpc.max_connection_age_ms", 10_000),  # clients look for new instances when they connect anew
]
NAME = DESCRIPTOR.services_by_name["Recommendations"].full_name


class Gate(grpc.aio.ServerInterceptor):
    """Once closed, refuses new calls as UNAVAILABLE, which a client may try elsewhere.

    gRPC itself, when it stops, cancels calls that have arrived and that no handler has yet.
    """

    def __init__(self) -> None:
        self.closed = False

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Let the call through, or refuse it."""
        handler = await continuation(handler_call_details)
        return _refusal if self.closed and handler is not None else handler


async def _refuse(request: Any, context: Any) -> None:  # noqa: ARG001 (gRPC passes both)
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")


_refusal: Any = grpc.unary_unary_rpc_method_handler(_refuse)


class Server:
    """recommendations, listening; faults need a switch. Raises OSError when the port is taken."""

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        service: RecommendationService,
        switch: Switch | None = None,
    ) -> None:
        self._settings = settings
        self._health = health.aio.HealthServicer()
        self._gate = Gate()
        interceptors = [*telemetry.aio_server_interceptors(), self._gate, AioErrorInterceptor(to_status)]
        self._server = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
        adapter = AioRecommendationService(service)
        faulty = FaultyService(adapter, switch) if switch else adapter
        add_RecommendationsServicer_to_server(faulty, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        telemetry.declare(f"/{NAME}/Recommend", "NOT_FOUND", "INVALID_ARGUMENT")
        self.port = self._listen(settings.address(settings.recommendations_port))

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()
        for name in ("", NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Not healthy first; then new calls are refused; calls in flight finish within the grace time."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._settings.drain_s)
        self._gate.closed = True
        await asyncio.sleep(REFUSE_S)
        await self._server.stop(self._settings.grace_s)

    def _listen(self, address: str) -> int:
        credentials = _credentials(self._settings)
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:  # gRPC's word for a port that it cannot have
            raise OSError(f"cannot listen on {address}") from error


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    pair = (settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())
    client_ca = settings.tls_client_ca_file
    return grpc.ssl_server_credentials(
        [pair], client_ca.read_bytes() if client_ca else None, require_client_auth=client_ca is not None
    )
