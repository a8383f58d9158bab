"""Recommends products that are not in the cart; it asks the catalogue for all of them."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from examples.boutique.boutique_pb2 import Empty, ListRecommendationsRequest, ListRecommendationsResponse
from examples.boutique.boutique_pb2_grpc import (
    ProductCatalogServiceStub,
    RecommendationServiceServicer,
    add_RecommendationServiceServicer_to_server,
)
from observability import Telemetry

COUNT = 5


class Recommendations(RecommendationServiceServicer):
    """Products at random."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._catalogue = ProductCatalogServiceStub(channel)  # type: ignore[no-untyped-call]

    def ListRecommendations(
        self,
        request: ListRecommendationsRequest,
        context: Any,
    ) -> ListRecommendationsResponse:
        """At most five products that are not in the request."""
        listed = {product.id for product in self._catalogue.ListProducts(Empty(), timeout=5).products}
        others = sorted(listed - set(request.product_ids))
        chosen = random.sample(others, min(COUNT, len(others)))
        return ListRecommendationsResponse(product_ids=chosen)


@contextmanager
def serve(telemetry: Telemetry, catalogue: str) -> Iterator[str]:
    """Serve it, with the catalogue's target; gives the target."""
    with grpc.insecure_channel(catalogue) as bare:
        channel = grpc.intercept_channel(bare, *telemetry.client_interceptors(catalogue))  # telemetry
        server = grpc.server(
            ThreadPoolExecutor(10),
            interceptors=telemetry.server_interceptors(),  # telemetry
        )
        add_RecommendationServiceServicer_to_server(Recommendations(channel), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(5).wait()
