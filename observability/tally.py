"""What telemetry counts about itself; its failures are also logged, once a minute."""

import logging
import threading
import time
from collections import Counter

LOG_INTERVAL_S = 60.0

logger = logging.getLogger(__name__)


class Tally:
    """Counts by name and label, in plain numbers: counting takes nobody's lock, and cannot fail.

    Names are those of prometheus counters, without `_total`; the metrics publish them.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: garbage that is collected meanwhile may count, too
        self._counts: Counter[tuple[str, str]] = Counter()
        self._logged_at: dict[str, float] = {}

    def add(self, name: str, label: str = "", amount: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name, label] += amount

    def counts(self) -> dict[tuple[str, str], int]:
        """What has been counted so far, by name and label."""
        with self._lock:
            return dict(self._counts)

    def failure(self, signal: str) -> None:
        """Count a failure of ours; called while its exception is being handled."""
        self.add("telemetry_signal_failures", signal)
        now = time.monotonic()
        if now - self._logged_at.get(signal, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged_at[signal] = now
            logger.warning(
                "telemetry failed (%s); further failures are only counted for a minute", signal, exc_info=True
            )

    def begin(self) -> None:
        """Start from nothing, as a forked child does."""
        self.__init__()  # type: ignore[misc]
