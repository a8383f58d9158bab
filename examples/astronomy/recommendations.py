"""Recommends products, with custom spans and attributes beside those of the calls."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.trace import get_current_span

from examples.astronomy.astronomy_pb2 import Empty, ListRecommendationsRequest, ListRecommendationsResponse
from examples.astronomy.astronomy_pb2_grpc import (
    ProductCatalogServiceStub,
    RecommendationServiceServicer,
    add_RecommendationServiceServicer_to_server,
)
from observability import Telemetry

COUNT = 5


class Recommendations(RecommendationServiceServicer):
    """Products at random; those of the catalogue are kept."""

    def __init__(self, telemetry: Telemetry, channel: grpc.Channel) -> None:
        self._tracer = telemetry.tracer_provider.get_tracer("recommendation")  # telemetry
        self._catalogue = ProductCatalogServiceStub(channel)  # type: ignore[no-untyped-call]
        self._kept: set[str] = set()

    def ListRecommendations(
        self,
        request: ListRecommendationsRequest,
        context: Any,
    ) -> ListRecommendationsResponse:
        """At most five products that are not in the request."""
        chosen = self._choose(set(request.product_ids))
        get_current_span().set_attribute("app.products_recommended.count", len(chosen))
        return ListRecommendationsResponse(product_ids=chosen)

    def _choose(self, known: set[str]) -> list[str]:
        with self._tracer.start_as_current_span("get_product_list") as span:
            span.set_attribute("app.cache_hit", bool(self._kept))
            if not self._kept:
                products = self._catalogue.ListProducts(Empty(), timeout=5).products
                self._kept = {product.id for product in products}
            others = sorted(self._kept - known)
            return random.sample(others, min(COUNT, len(others)))


@contextmanager
def serve(telemetry: Telemetry, catalogue: str) -> Iterator[str]:
    """Serve it, with the catalogue's target; gives the target."""
    with grpc.insecure_channel(catalogue) as bare:
        channel = grpc.intercept_channel(bare, *telemetry.client_interceptors(catalogue))  # telemetry
        server = grpc.server(
            ThreadPoolExecutor(10),
            interceptors=telemetry.server_interceptors(),  # telemetry
        )
        add_RecommendationServiceServicer_to_server(Recommendations(telemetry, channel), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(5).wait()
