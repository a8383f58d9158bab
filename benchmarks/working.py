"""The recommendations service with work in its handler: 2 ms of CPU a call. benchmarks.overload starts it."""

import sys
import time
from typing import Any

from protobufs.recommendations_pb2 import RecommendationRequest, RecommendationResponse
from services.recommendations import RecommendationService, __main__

WORK_S = 0.002

recommend = RecommendationService.Recommend


def work(self: RecommendationService, request: RecommendationRequest, context: Any) -> RecommendationResponse:
    """Work, and recommend."""
    end = time.thread_time() + WORK_S
    while time.thread_time() < end:
        pass
    return recommend(self, request, context)


if __name__ == "__main__":
    RecommendationService.Recommend = work  # type: ignore[method-assign]
    sys.exit(__main__.main())
