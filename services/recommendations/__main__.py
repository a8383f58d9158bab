"""`python -m services.recommendations`: reads the settings, serves, and stops on SIGTERM or SIGINT.

SIGHUP has it read its certificates again.
"""

import gc
import logging
import signal
import sys
import time
from queue import SimpleQueue

from observability import Telemetry
from services import __version__, metrics
from services.core_log import CoreLog
from services.faults.admin import HOST, Admin
from services.feed import FeedError, read_books
from services.ports import PortTaken, require_free
from services.recommendations.catalogue import Catalogue
from services.recommendations.config import Settings
from services.recommendations.server import Server
from services.recommendations.servicer import RecommendationService
from services.settings import load
from services.stderr import StandardError

TELEMETRY_S = 1.0
CORE_LOG_S = 0.5
NOT_LISTENING = 3
LOOK_S = 0.1  # how often it looks for signals

logger = logging.getLogger("services.recommendations")


def main() -> int:
    """Serve until asked to stop; the exit code says how it went (2: a wrong setting, feed or port; 3: its
    listener is gone)."""
    signals: SimpleQueue[int] = SimpleQueue()  # its put may interrupt it; an Event's set may not
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: signals.put(received))  # kept until it serves
    settings = load(Settings)
    try:
        require_free(settings.bind_host, settings.recommendations_port, "RECOMMENDATIONS_PORT")
        require_free(
            settings.bind_host, settings.recommendations_metrics_port, "RECOMMENDATIONS_METRICS_PORT"
        )
        if settings.recommendations_faults_port:
            require_free(HOST, settings.recommendations_faults_port, "RECOMMENDATIONS_FAULTS_PORT")
        service = RecommendationService(Catalogue(read_books(settings.books_file)))
        gc.freeze()  # the catalogue stays: the collector need not look at it again
        telemetry = Telemetry(
            settings.otel_service_name,
            version=__version__,
            public_endpoint=settings.observability_public_endpoint,
        )
        telemetry.capture_logs(settings.log_level)
        stderr = StandardError(CoreLog(telemetry.registry).take)
        faults_port = settings.recommendations_faults_port
        admin = Admin("recommendations", faults_port) if faults_port else None
        server = Server(settings, telemetry, service, admin.switch if admin else None)
        metrics_port = metrics.serve(telemetry, settings.recommendations_metrics_port, settings)
    except (FeedError, OSError, PortTaken, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    code = _serve(server, metrics_port, admin, signals)
    stderr.close(CORE_LOG_S)
    telemetry.shutdown(TELEMETRY_S)
    return code


def _serve(server: Server, metrics_port: int, admin: Admin | None, signals: SimpleQueue[int]) -> int:
    server.start()
    logger.info("serving on port %d, metrics on port %d", server.port, metrics_port)
    code = NOT_LISTENING
    while code and server.is_listening():
        time.sleep(LOOK_S)  # no get: a signal to another thread, as to a frozen process, does not end it
        while code and not signals.empty():
            if signals.get() == signal.SIGHUP:
                server.reload_certificates()
            else:
                code = 0
    if code:
        logger.error("nobody listens on port %d any more: ending, to be started again", server.port)
    logger.info("stopping")
    if admin:
        admin.close()
    server.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
