"""What becomes of a signal's own failure: it is counted, told once a minute, and goes no further."""

import logging
import time

from prometheus_client import CollectorRegistry, Counter

from observability.families import family

LOG_INTERVAL_S = 60.0

logger = logging.getLogger(__name__)


class Failures:
    """Counts the failures of signals in `telemetry_signal_failures_total{signal}`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = family(
            Counter,
            "telemetry_signal_failures_total",
            "Times a signal failed to tell of a call.",
            ("signal",),
            registry,
        )
        self._told_at: dict[str, float] = {}

    def count(self, signal: str) -> None:
        """Count a failure of the signal; called while its exception is being handled."""
        self._counter.labels(signal).inc()
        now = time.monotonic()
        if now - self._told_at.get(signal, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._told_at[signal] = now
            logger.warning(
                "signal %s failed; further failures are only counted for a minute", signal, exc_info=True
            )
