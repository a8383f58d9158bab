"""What a fault does to a call: around the service, within the call as telemetry sees it."""

import time
from typing import Any

import grpc

from protobufs.recommendations_pb2 import RecommendationRequest, RecommendationResponse
from protobufs.recommendations_pb2_grpc import RecommendationsServicer
from services.faults.switch import Switch
from services.recommendations.catalogue import CategoryNotFound

BLOCK = 1024 * 1024
MOST_BLOCKS = 64


class FaultyService(RecommendationsServicer):
    """The service, with the faults that are on."""

    def __init__(self, service: RecommendationsServicer, switch: Switch) -> None:
        self._service, self._switch = service, switch

    def Recommend(self, request: RecommendationRequest, context: Any) -> RecommendationResponse:  # noqa: N802
        """Books of the category, late or not at all when a fault is on."""
        if slow := self._switch.drawn("slow"):
            time.sleep(slow.ms / 1e3)
        if (leak := self._switch.drawn("leak")) and len(leak.kept) < MOST_BLOCKS:
            leak.kept.append(b"x" * BLOCK)
        if errors := self._switch.drawn("errors"):
            context.abort(grpc.StatusCode[errors.code], "the catalogue cannot be read")
        if self._switch.drawn("not-found"):
            raise CategoryNotFound(request.category)
        response: RecommendationResponse = self._service.Recommend(request, context)  # type: ignore[no-untyped-call]
        return response
