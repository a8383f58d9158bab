"""What the database does for pages, as metrics named by OpenTelemetry's database conventions."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Engine
from sqlalchemy.pool import QueuePool

from services.marketplace.store.availability import Availability

BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)  # the convention's


class Metrics:
    """The metrics of one store; gauges are read from it when they are scraped."""

    def __init__(self, registry: CollectorRegistry, engine: Engine, availability: Availability) -> None:
        self._durations = Histogram(
            "db_client_operation_duration_seconds",
            "Duration of the shop's queries with their wait for a connection; error_type is why one failed.",
            ["db_system_name", "db_query_summary", "error_type"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._system = engine.dialect.name
        self.refused = Counter(
            "marketplace_database_refused_total",
            "Pages answered 503 at once because the database was away already.",
            registry=registry,
        )
        self._gauge(
            registry,
            "marketplace_database_up",
            "1 while the database answers, 0 while it is away.",
            lambda: not availability.is_away,
        )
        self._gauge(
            registry,
            "marketplace_feed_loaded",
            "1 when the database has the books of the feed, 0 when it has older ones or none.",
            lambda: availability.is_loaded,
        )
        for name in ("book", "list", "search"):
            self._durations.labels(self._system, name, "")
        pool = engine.pool
        if isinstance(pool, QueuePool):
            self._pool(registry, pool)

    def query(self, name: str, duration_s: float, error_type: str) -> None:
        """Record a query; error_type is empty when it succeeded."""
        self._durations.labels(self._system, name, error_type).observe(duration_s)

    def _pool(self, registry: CollectorRegistry, pool: QueuePool) -> None:
        count = Gauge(
            "db_client_connection_count",
            "Connections of the pool, by state.",
            ["db_client_connection_state"],
            registry=registry,
        )
        count.labels("used").set_function(pool.checkedout)
        count.labels("idle").set_function(pool.checkedin)
        self._gauge(
            registry, "db_client_connection_max", "Connections that the pool may have at most.", pool.size
        )

    @staticmethod
    def _gauge(registry: CollectorRegistry, name: str, text: str, read: Callable[[], Any]) -> None:
        Gauge(name, text, registry=registry).set_function(read)
