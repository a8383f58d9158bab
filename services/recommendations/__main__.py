"""`python -m services.recommendations`: reads the settings, serves, and stops on SIGTERM or SIGINT."""

import asyncio
import gc
import logging
import signal
import sys

import uvloop

from observability import Telemetry
from services import __version__
from services.feed import FeedError, read_books
from services.recommendations.catalogue import Catalogue
from services.recommendations.config import Settings
from services.recommendations.server import Server
from services.recommendations.servicer import RecommendationService
from services.settings import load

TELEMETRY_S = 1.0

logger = logging.getLogger("services.recommendations")


def main() -> int:
    """Serve until told to stop; the exit code says how it went (2: a wrong setting, feed or port)."""
    settings = load(Settings)
    try:
        service = RecommendationService(Catalogue(read_books(settings.books_file)))
        gc.freeze()  # the catalogue stays: the collector need not look at it again
        telemetry = Telemetry(settings.otel_service_name, version=__version__)
        telemetry.capture_logs(settings.log_level)
        return uvloop.run(_serve(settings, telemetry, service))
    except (FeedError, ValueError) as error:
        return _refuse(str(error))


async def _serve(settings: Settings, telemetry: Telemetry, service: RecommendationService) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        name, port = "RECOMMENDATIONS_PORT", settings.recommendations_port
        server = Server(settings, telemetry, service)
        name, port = "RECOMMENDATIONS_METRICS_PORT", settings.recommendations_metrics_port
        metrics_port = telemetry.serve_metrics(port, settings.bind_host)
    except OSError:
        return _refuse(f"{name}: cannot listen on port {port}: stop what listens there, or set {name}")
    await server.start()
    logger.info("serving on port %d, metrics on port %d", server.port, metrics_port)
    await stop.wait()
    logger.info("stopping")
    await server.stop()
    await asyncio.to_thread(telemetry.shutdown, TELEMETRY_S)
    return 0


def _refuse(reason: str) -> int:
    sys.stderr.write(reason + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
