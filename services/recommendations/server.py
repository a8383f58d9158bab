"""The server: the service, health and reflection, and how they start and stop.

It runs on threads. One malformed request closes the listener of an asyncio server for good (grpcio 1.85),
and the blocking server on a small pool costs less CPU a call.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from observability import ErrorInterceptor, Telemetry
from protobufs.recommendations_pb2 import DESCRIPTOR
from protobufs.recommendations_pb2_grpc import add_RecommendationsServicer_to_server
from services.faults.switch import Switch
from services.ports import PortTaken, require_free
from services.recommendations.config import Settings
from services.recommendations.errors import to_status
from services.recommendations.faults import FaultyService
from services.recommendations.parsing import Parsing
from services.recommendations.pool import Pool
from services.recommendations.servicer import RecommendationService
from services.recommendations.waiting import WaitingService
from services.recommendations.watchers import Watchers
from services.tls import ServerTls

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

WARM_THREADS = 2  # one thread cannot serve while its next request arrives; from three on they contend
MOST_THREADS = 64
MOST_WATCHERS = 500  # a client that checks health has one stream open, and that holds one thread
MOST_CALLS = 100  # more at once, but for watchers, are RESOURCE_EXHAUSTED: in a longer queue callers give up
MOST_CONNECTIONS = 500
GREET_MS = 5000  # that a client has to say that it speaks HTTP/2
REFUSE_S = 0.2
OPTIONS = [
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share of its calls
    ("grpc.max_connection_age_ms", 8_000),  # clients find new instances when they reconnect: within 10 s
    # Clients ask for a sign of life every two seconds; a busy machine may bring several at once.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 200),
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", GREET_MS),
    ("grpc.http2.settings_timeout", GREET_MS),
    # Calls that no thread of Python has seen: beyond this, gRPC's core refuses for a fifth of the cost.
    ("grpc.server.max_pending_requests", 2 * MOST_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", 4 * MOST_CALLS),
]
NAME = DESCRIPTOR.services_by_name["Recommendations"].full_name


class Gate(grpc.ServerInterceptor):
    """Once closed, refuses new calls as UNAVAILABLE, which a client may try elsewhere.

    gRPC itself, when it stops, cancels calls that have arrived and that no handler has yet.
    """

    def __init__(self) -> None:
        self.closed = False

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Let the call through, or refuse it."""
        handler = continuation(handler_call_details)
        return _refusal if self.closed and handler is not None else handler


def _refuse(request: Any, context: Any) -> None:  # noqa: ARG001 (gRPC passes both)
    context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")


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
        self._tls = ServerTls(settings.tls) if settings.tls else None
        self._gate = Gate()
        self._pool = Pool(WARM_THREADS, MOST_THREADS)
        self._watchers = Watchers(MOST_WATCHERS, "watcher")
        # Non-blocking, it would send to its watchers under the lock that a watcher's end waits for.
        self._health = health.HealthServicer(
            experimental_non_blocking=False, experimental_thread_pool=self._watchers
        )
        self._server = grpc.server(
            cast("ThreadPoolExecutor", self._pool),  # of a pool, gRPC uses only what every Executor has
            interceptors=[
                *telemetry.server_interceptors(workers=MOST_THREADS),
                self._gate,
                ErrorInterceptor(to_status),
                Parsing(),
            ],
            options=OPTIONS,
            maximum_concurrent_rpcs=MOST_CALLS,
        )
        faulty = FaultyService(service, switch) if switch else service
        add_RecommendationsServicer_to_server(WaitingService(faulty), self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        telemetry.declare(f"/{NAME}/Recommend", "NOT_FOUND", "INVALID_ARGUMENT")
        self.port = self._listen(settings.address(settings.recommendations_port))

    def start(self) -> None:
        """Take calls."""
        self._server.start()
        for name in ("", NAME):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def reload_certificates(self) -> None:
        """Read the files of TLS at once, if it is served."""
        if self._tls:
            self._tls.reload()

    def is_listening(self) -> bool:
        """Whether its port is taken, so that nobody else could have it: gRPC reports no lost listener."""
        try:
            require_free(self._settings.bind_host, self.port, "RECOMMENDATIONS_PORT")
        except PortTaken:
            return True
        return False

    def stop(self) -> None:
        """Not healthy first; then new calls are refused; calls in flight finish within the grace time."""
        self._health.enter_graceful_shutdown()
        time.sleep(self._settings.drain_s)
        self._gate.closed = True
        time.sleep(REFUSE_S)
        self._server.stop(self._settings.grace_s).wait()
        for threads in (self._pool, self._watchers):  # not before: a server that cannot submit breaks
            threads.shutdown(wait=False)

    def _listen(self, address: str) -> int:
        try:
            if self._tls is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._tls.credentials)
        except RuntimeError as error:  # gRPC's word for a port that it cannot have
            raise OSError(f"cannot listen on {address}") from error
