"""The servers that are compared. Each runs as a separate process.

Run: python -m benchmarks.cost.servers VARIANT (prints its port; ends when its standard input ends)
"""

import asyncio
import gc
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import uvloop

from benchmarks.cost.unobserved import Unobserved
from observability import Telemetry
from protobufs.recommendations_pb2 import BookRecommendation, RecommendationRequest, RecommendationResponse
from protobufs.recommendations_pb2_grpc import (
    RecommendationsServicer,
    add_RecommendationsServicer_to_server,
)
from services.feed import Category, read_books
from services.recommendations import RecommendationService
from services.recommendations.config import Settings
from services.recommendations.server import Server
from services.settings import BOOKS

TUTORIAL_THREADS = 10


class TutorialService(RecommendationsServicer):
    """As in the tutorial: the messages of all books are made before the first call."""

    def __init__(self) -> None:
        self._books: dict[int, list[BookRecommendation]] = {category: [] for category in Category}
        for book_id, title, _, category, _ in read_books(BOOKS):
            self._books[category].append(BookRecommendation(id=book_id, title=title))

    def Recommend(self, request: RecommendationRequest, context: Any) -> RecommendationResponse:  # noqa: N802
        """Books of the category, at random."""
        if request.category not in self._books:
            context.abort(grpc.StatusCode.NOT_FOUND, "Category not found")
        books = self._books[request.category]
        chosen = random.sample(books, min(request.max_results, len(books)))
        return RecommendationResponse(recommendations=chosen)


class AioService(RecommendationsServicer):
    """The shipped service on an event loop. It never waits, so it can answer there."""

    def __init__(self) -> None:
        self._service = RecommendationService()

    async def Recommend(self, request: RecommendationRequest, context: Any) -> RecommendationResponse:  # noqa: N802
        """Books of the category, at random."""
        return self._service.Recommend(request, context)


def tutorial(interceptors: list[Any] | None = None) -> None:
    """Serve on a pool of threads, as the tutorial does."""
    server = grpc.server(ThreadPoolExecutor(TUTORIAL_THREADS), interceptors=interceptors)
    add_RecommendationsServicer_to_server(TutorialService(), server)  # type: ignore[no-untyped-call]
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


def shipped(telemetry: Any) -> None:
    """Serve as services/recommendations does, its health, reflection and other interceptors included."""
    service = RecommendationService()
    gc.freeze()
    server = Server(Settings(recommendations_port=0, drain_s=0), telemetry, service)
    print(server.port, flush=True)
    server.start()
    sys.stdin.read()
    server.stop()


def on_asyncio(interceptors: list[Any] | None = None) -> None:
    """Serve on one event loop of uvloop."""
    service = AioService()
    gc.freeze()
    uvloop.run(_serve_on_asyncio(service, interceptors))


async def _serve_on_asyncio(service: AioService, interceptors: list[Any] | None) -> None:
    server = grpc.aio.server(interceptors=interceptors)
    add_RecommendationsServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def _peers_threaded(service: str) -> None:
    from opentelemetry.instrumentation.grpc import server_interceptor
    from py_grpc_prometheus.prometheus_server_interceptor import (
        PromServerInterceptor,
    )

    tracing = server_interceptor(_provider(service))  # type: ignore[no-untyped-call]
    tutorial([tracing, PromServerInterceptor(enable_handling_time_histogram=True)])


def _peers_asyncio(service: str) -> None:
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    on_asyncio([aio_server_interceptor(_provider(service))])  # type: ignore[no-untyped-call]


def _provider(service: str) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


TUTORIAL, SHIPPED, ASYNCIO = "tutorial", "shipped", "asyncio"
OBSERVED, ALWAYS_ON = " observed", " observed, always_on"
PEERS = " with peers"
VARIANTS: dict[str, Callable[[str], None]] = {
    TUTORIAL: lambda _: tutorial(),
    TUTORIAL + OBSERVED: lambda name: tutorial(Telemetry(name).server_interceptors()),
    TUTORIAL + PEERS: _peers_threaded,
    SHIPPED: lambda _: shipped(Unobserved()),
    SHIPPED + OBSERVED: lambda name: shipped(Telemetry(name)),
    SHIPPED + ALWAYS_ON: lambda name: shipped(Telemetry(name)),
    ASYNCIO: lambda _: on_asyncio(),
    ASYNCIO + OBSERVED: lambda name: on_asyncio(Telemetry(name).aio_server_interceptors()),
    ASYNCIO + ALWAYS_ON: lambda name: on_asyncio(Telemetry(name).aio_server_interceptors()),
    ASYNCIO + PEERS: _peers_asyncio,
}
UNOBSERVED = (TUTORIAL, SHIPPED, ASYNCIO)


def variables(name: str) -> dict[str, str]:
    """What a variant's environment has besides the receiver's address."""
    return {"OTEL_TRACES_SAMPLER": "always_on"} if name.endswith(ALWAYS_ON) else {}


if __name__ == "__main__":
    VARIANTS[sys.argv[1]](sys.argv[1])
