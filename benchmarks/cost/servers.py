"""The servers that are compared. Each runs as a process of its own.

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

from observability import Telemetry
from observability.call import Recorder
from protobufs.recommendations_pb2 import BookRecommendation, RecommendationRequest, RecommendationResponse
from protobufs.recommendations_pb2_grpc import (
    RecommendationsServicer,
    add_RecommendationsServicer_to_server,
)
from services.feed import Category, read_books
from services.recommendations.catalogue import Catalogue
from services.recommendations.servicer import AioRecommendationService, RecommendationService
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


class OneSignal(Telemetry):
    """Telemetry that tells of calls by one signal alone, named as the signal names itself."""

    def __init__(self, service: str, signal: str) -> None:
        super().__init__(service)
        self._only = signal

    def _recorder(self, side: str, *target: Any) -> Recorder:
        recorder = super()._recorder(side, *target)
        (signal,) = (signal for signal in recorder._signals if signal.name == self._only)
        recorder._signals = (signal,)
        return recorder


def threaded(interceptors: list[Any] | None = None) -> None:
    """Serve on threads, as the tutorial does."""
    server = grpc.server(ThreadPoolExecutor(TUTORIAL_THREADS), interceptors=interceptors)
    add_RecommendationsServicer_to_server(TutorialService(), server)  # type: ignore[no-untyped-call]
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


def on_asyncio(interceptors: list[Any] | None = None) -> None:
    """Serve on one event loop, as services/recommendations does."""
    service = RecommendationService(Catalogue(read_books(BOOKS)))
    gc.freeze()
    uvloop.run(_serve(AioRecommendationService(service), interceptors))


async def _serve(service: AioRecommendationService, interceptors: list[Any] | None) -> None:
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
    threaded([tracing, PromServerInterceptor(enable_handling_time_histogram=True)])


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


BASE = "tutorial"
VARIANTS: dict[str, Callable[[str], None]] = {
    BASE: lambda _: threaded(),
    "bare asyncio": lambda _: on_asyncio(),
    "ours: traces": lambda name: on_asyncio(OneSignal(name, "tracing").aio_server_interceptors()),
    "ours: metrics": lambda name: on_asyncio(OneSignal(name, "metrics").aio_server_interceptors()),
    "ours: logs": lambda name: on_asyncio(OneSignal(name, "logs").aio_server_interceptors()),
    "ours: all": lambda name: on_asyncio(Telemetry(name).aio_server_interceptors()),
    "ours threaded: all": lambda name: threaded(Telemetry(name).server_interceptors()),
    "peers asyncio": _peers_asyncio,
    "peers threaded": _peers_threaded,
}
TRACED = frozenset(VARIANTS) - {BASE, "bare asyncio", "ours: metrics", "ours: logs"}


if __name__ == "__main__":
    VARIANTS[sys.argv[1]](sys.argv[1])
