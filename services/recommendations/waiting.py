"""Calls that waited: in a long queue, first come first served, all would be answered just too late."""

from typing import Any

import grpc

from protobufs.recommendations_pb2 import RecommendationRequest, RecommendationResponse
from protobufs.recommendations_pb2_grpc import RecommendationsServicer
from services.recommendations.pool import waited_s


class WaitingService(RecommendationsServicer):
    """The service, but for calls that waited for a thread longer than they have left: these it refuses."""

    def __init__(self, service: RecommendationsServicer) -> None:
        self._service = service

    def Recommend(self, request: RecommendationRequest, context: Any) -> RecommendationResponse:  # noqa: N802
        """Books of the category, if its caller is likely to be there for them."""
        if waited_s() > context.time_remaining():
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "waited for a thread longer than is left")
        response: RecommendationResponse = self._service.Recommend(request, context)  # type: ignore[no-untyped-call]
        return response
