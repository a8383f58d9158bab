"""What the shop counts of its recommendations, besides the calls that gRPC's interceptors count."""

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge

from services import handshakes
from services.marketplace.recommendations.circuit import Circuit

ANSWERS = (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)
REFUSED = ("CIRCUIT_OPEN", "TOO_MANY_CALLS", "NO_TIME")  # the shop's own reasons not to call
TLS = tuple(f"TLS_{reason.upper()}" for reason in handshakes.REASONS)
REASONS = (*REFUSED, *TLS, *(code.name for code in grpc.StatusCode if code not in ANSWERS))
PREFIX = "marketplace_recommendations_"


class RecommendationsMetrics:
    """Counters of pages and of the circuit's changes; every series is there from the start."""

    def __init__(self, registry: CollectorRegistry, circuit: Circuit) -> None:
        self.asked = Counter(
            f"{PREFIX}asked_total", "Pages that asked for recommendations.", registry=registry
        )
        self.degraded = Counter(
            f"{PREFIX}degraded_total",
            "Pages shown without new recommendations, by the gRPC status or the shop's own reason.",
            ["reason"],
            registry=registry,
        )
        self.kept = Counter(
            f"{PREFIX}kept_total", "Those of them that showed kept recommendations.", registry=registry
        )
        self.changes = Counter(
            f"{PREFIX}circuit_changes_total",
            "How often the circuit to recommendations opened and closed.",
            ["state"],
            registry=registry,
        )
        for reason in REASONS:
            self.degraded.labels(reason)
        for state in ("open", "closed"):
            self.changes.labels(state)
        is_open = Gauge(
            f"{PREFIX}circuit_open", "1 while pages go on without recommendations, else 0.", registry=registry
        )
        is_open.set_function(lambda: circuit.is_open)
