"""The shop's side of recommendations: adds the deadline, and turns protobuf and statuses into plain words."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import Counter

from observability import Telemetry
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.feed import Category
from services.marketplace.channel import connect
from services.marketplace.config import Settings

WATCH_S = 0.25  # a little more than gRPC waits between two looks
VISITOR = 1  # everybody is the same person until the shop has accounts


class Recommendation(NamedTuple):
    """A book that may please the reader."""

    id: int
    title: str


class UnknownCategory(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """Recommendations does not have the category; known are the names of those that it has."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__("Category not found")
        self.known = known


class Unavailable(Exception):  # noqa: N818
    """There are no recommendations now; reason is gRPC's name of the status."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Recommendations:
    """A client of the service, on one channel for all threads."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        target = settings.recommendations_target
        self._channel = connect(settings)
        interceptors = telemetry.client_interceptors(target, settings.recommendations_timeout_ms / 1e3)
        channel = grpc.intercept_channel(self._channel, *interceptors)
        self._stub = RecommendationsStub(channel)  # type: ignore[no-untyped-call]
        self._degraded = Counter(
            "marketplace_recommendations_degraded_total",
            "Pages shown without recommendations, by the gRPC status that was the reason.",
            ["reason"],
            registry=telemetry.registry,
        )
        for code in grpc.StatusCode:
            if code not in {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}:
                self._degraded.labels(code.name)
        telemetry.declare(
            "/Recommendations/Recommend", "NOT_FOUND", "DEADLINE_EXCEEDED", "UNAVAILABLE", side="client"
        )
        self.state = "IDLE"
        self._channel.subscribe(self._watch)

    def recommend(self, category: int, count: int) -> list[Recommendation]:
        """Books of the category, at most count; raises UnknownCategory or Unavailable."""
        # The number goes out as it is: which categories there are is for the service to say.
        request = RecommendationRequest(user_id=VISITOR, category=category, max_results=count)  # type: ignore[arg-type]
        try:
            response = self._stub.Recommend(request)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        return [Recommendation(book.id, book.title) for book in response.recommendations]

    def close(self) -> None:
        """Close the channel."""
        self._channel.unsubscribe(self._watch)
        time.sleep(WATCH_S)  # gRPC's thread that watches ends by then; on a closed channel it would raise
        self._channel.close()

    def _watch(self, state: grpc.ChannelConnectivity) -> None:
        self.state = state.name

    def _translated(self, error: grpc.RpcError) -> UnknownCategory | Unavailable:
        code = error.code()
        if code is grpc.StatusCode.NOT_FOUND:
            return UnknownCategory(_known_categories(error))
        self._degraded.labels(code.name).inc()
        return Unavailable(code.name)


def _known_categories(error: grpc.RpcError) -> Sequence[str]:
    """The categories that the service says it has, in google.rpc.ErrorInfo; else the shop's own."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info) and "known_categories" in info.metadata:
            return str(info.metadata["known_categories"]).split(",")
    return [category.name for category in Category]
