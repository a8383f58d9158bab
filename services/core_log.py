"""The log of gRPC's core, as lines of Python's logging; the TLS handshakes that failed are counted.

gRPC reports in no other way why a client was refused, and does not say who it was.
"""

import logging
import re

from prometheus_client import CollectorRegistry, Counter

from services.handshakes import REASONS, reason_in

# As in: I1126 02:00:38.721655   20588 ssl_transport_security.cc:2563] Handshake failed with error ...
LINE = re.compile(r"(?P<level>[IWE])\d{4} [\d:.]+ +\d+ (?P<source>[\w./-]+:\d+)\] (?P<message>.*)\n")
LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR}

logger = logging.getLogger("grpc.core")


class CoreLog:
    """Takes the lines of core's log, but for fatal ones: they are for standard error, as the process dies."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "tls_handshakes_refused_total",
            "TLS handshakes of gRPC that failed in this process, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in REASONS:
            self._refused.labels(reason)

    def take(self, line: str) -> bool:
        """Log the line, if it is one of core's."""
        found = LINE.fullmatch(line)
        if found is None:
            return False
        message = found["message"]
        reason = reason_in(message)
        if reason is None:
            logger.log(LEVELS[found["level"]], "%s", message, extra={"source": found["source"]})
        else:
            self._refused.labels(reason).inc()
            logger.warning("TLS handshake refused: %s", reason, extra={"reason": reason, "details": message})
        return True


def is_of_core(line: str) -> bool:
    """Whether core wrote it."""
    return LINE.fullmatch(line) is not None
