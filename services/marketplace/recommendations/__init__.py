"""The shop's side of recommendations: in time, only while the service is well, and in plain words."""

import logging
from collections.abc import Sequence

import grpc

from observability import Telemetry
from protobufs.recommendations_pb2 import RecommendationRequest
from services.handshakes import reason_in
from services.marketplace.config import Settings
from services.marketplace.recommendations.answers import Recommendation, known_categories, sound
from services.marketplace.recommendations.channel import Channel
from services.marketplace.recommendations.circuit import Circuit, Refused
from services.marketplace.recommendations.kept import Kept
from services.marketplace.recommendations.metrics import RecommendationsMetrics

VISITOR = 1  # everybody is the same person until the shop has accounts
WORTH = 0.1  # with less than this share of its usual time left, a call is not made

logger = logging.getLogger(__name__)


class UnknownCategory(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """Recommendations does not have the category; known are the names of those that it has."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__("Category not found")
        self.known = known


class Unavailable(Exception):  # noqa: N818
    """There are no recommendations now; kept are those of a moment ago, if there are any.

    reason is gRPC's name of the status, or TLS_ and why the shop did not accept the service's certificate, or
    why there was no call: CIRCUIT_OPEN, TOO_MANY_CALLS or NO_TIME.
    """

    def __init__(self, reason: str, kept: list[Recommendation]) -> None:
        super().__init__(reason)
        self.reason, self.kept = reason, kept


class Recommendations:
    """A client of the service, on one channel for all threads."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._timeout_s = min(settings.recommendations_timeout_ms / 1e3, settings.page_budget_s)
        self.channel = Channel(settings, telemetry.client_interceptors(settings.recommendations_target))
        telemetry.declare(
            "/Recommendations/Recommend", "NOT_FOUND", "DEADLINE_EXCEEDED", "UNAVAILABLE", side="client"
        )
        # A quarter of the threads is left to pages that need no recommendations.
        self.circuit = Circuit(max(1, settings.marketplace_threads * 3 // 4), self._changed)
        self._kept: Kept[list[Recommendation]] = Kept(settings.recommendations_keep_s)
        self._metrics = RecommendationsMetrics(telemetry.registry, self.circuit)

    def recommend(self, category: int, count: int, within_s: float) -> list[Recommendation]:
        """Books of the category, at most count, within within_s seconds.

        Raises UnknownCategory or Unavailable.
        """
        self._metrics.asked.inc()
        timeout_s = min(within_s, self._timeout_s)
        if timeout_s < WORTH * self._timeout_s:
            raise self._unavailable(category, "NO_TIME")
        # The number goes out as it is: which categories there are is for the service to say.
        request = RecommendationRequest(user_id=VISITOR, category=category, max_results=count)  # type: ignore[arg-type]
        try:
            recommend = self.channel.stub().Recommend
            response = self.circuit.run(lambda: recommend(request, timeout=timeout_s), _is_answer)
        except Refused as error:
            raise self._unavailable(category, error.reason) from error
        except grpc.RpcError as error:
            if _is_answer(error):
                raise UnknownCategory(known_categories(error)) from error
            raise self._unavailable(category, _reason(error)) from error
        if books := sound(response.recommendations, count):
            self._kept.put(category, books)
        return books

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()

    def _changed(self, is_open: bool) -> None:
        state = "open" if is_open else "closed"
        self._metrics.changes.labels(state).inc()
        logger.warning("the circuit to recommendations is %s", state)

    def _unavailable(self, category: int, reason: str) -> Unavailable:
        kept = self._kept.get(category) or []
        self._metrics.degraded.labels(reason).inc()
        self._metrics.kept.inc(bool(kept))
        return Unavailable(reason, kept)


def _reason(error: grpc.RpcError) -> str:
    tls = reason_in(error.details() or "") if error.code() is grpc.StatusCode.UNAVAILABLE else None
    return str(error.code().name) if tls is None else f"TLS_{tls.upper()}"


def _is_answer(error: Exception) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.NOT_FOUND
