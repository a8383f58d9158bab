"""What the front does, as metrics: the requests that it turns away never reach the application's own."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.marketplace.front.front import Front

REASONS = (
    "client_connections", "connections", "length_required", "malformed", "queue_full", "timeout",
    "too_large", "waited",
)  # fmt: skip


class FrontMetrics:
    """The front's metrics in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.threads = Gauge(
            "marketplace_threads", "Threads that serve pages, busy or not.", registry=registry
        )
        self._refused = Counter(
            "marketplace_requests_refused_total",
            "Requests and connections turned away before a page was begun, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in REASONS:
            self._refused.labels(reason)
        self._connections = Gauge(
            "marketplace_connections", "Connections of clients, idle or not.", registry=registry
        )
        self._waiting = Gauge(
            "marketplace_requests_waiting", "Requests that wait for a thread.", registry=registry
        )

    def refuse(self, reason: str) -> None:
        """Count one that is turned away."""
        self._refused.labels(reason).inc()

    def watch(self, front: Front) -> None:
        """Show the front's state whenever it is asked for."""
        self._connections.set_function(lambda: len(front.connections))
        self._waiting.set_function(lambda: len(front.pages))
