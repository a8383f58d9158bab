"""The gRPC service: it only translates between protobuf and the catalogue."""

from functools import lru_cache
from typing import Any

from protobufs.recommendations_pb2 import (
    BookRecommendation,
    RecommendationRequest,
    RecommendationResponse,
)
from protobufs.recommendations_pb2_grpc import RecommendationsServicer
from services.feed import read_books
from services.recommendations.catalogue import Catalogue
from services.settings import BOOKS


class RecommendationService(RecommendationsServicer):
    """Recommends books; by default those of the feed that comes with the services."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._catalogue = catalogue or Catalogue(read_books(BOOKS))

    def Recommend(self, request: RecommendationRequest, context: Any) -> RecommendationResponse:  # noqa: ARG002, N802
        """Books of the category, at random; raises the catalogue's domain errors."""
        books = self._catalogue.recommend(request.user_id, request.category, request.max_results)
        return RecommendationResponse(recommendations=[_message(*book) for book in books])


@lru_cache(maxsize=4096)
def _message(book_id: int, title: str) -> BookRecommendation:
    return BookRecommendation(id=book_id, title=title)
