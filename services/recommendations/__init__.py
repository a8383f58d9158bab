"""The gRPC service that recommends books."""

from services.recommendations.servicer import RecommendationService

__all__ = ["RecommendationService"]
