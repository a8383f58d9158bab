"""Recommends products that are not in the cart; it asks the catalogue for all there are."""

import random
from concurrent.futures import ThreadPoolExecutor
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
        """At most five products that were not asked with."""
        listed = {product.id for product in self._catalogue.ListProducts(Empty(), timeout=5).products}
        others = sorted(listed - set(request.product_ids))
        chosen = random.sample(others, min(COUNT, len(others)))
        return ListRecommendationsResponse(product_ids=chosen)


def serve(telemetry: Telemetry, catalogue: str) -> tuple[grpc.Server, str]:
    """Start it, with the catalogue's target; the server and its own target."""
    channel = grpc.insecure_channel(catalogue)
    channel = grpc.intercept_channel(channel, *telemetry.client_interceptors(catalogue))  # telemetry
    server = grpc.server(
        ThreadPoolExecutor(10),
        interceptors=telemetry.server_interceptors(),  # telemetry
    )
    add_RecommendationServiceServicer_to_server(Recommendations(channel), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"
