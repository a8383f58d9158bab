"""The process that serves pages: what it creates after the fork, how it stops, what it exits with."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from services import __version__
from services.feed import FeedError
from services.marketplace.config import Settings
from services.marketplace.front.front import Limits

if TYPE_CHECKING:
    from services.marketplace.front.metrics import FrontMetrics

TELEMETRY_S = 1.0
CORE_LOG_S = 0.5


class PlainLogger(Logger):
    """gunicorn's log, as lines of Python's logging from warnings on."""

    def setup(self, cfg: Any) -> None:  # noqa: ARG002
        """Leave the format to the service."""
        self.error_log.propagate = True
        self.error_log.handlers.clear()
        self.error_log.setLevel(logging.WARNING)
        self.access_log.propagate = False


class Worker:
    """The shop in gunicorn's worker process. Threads and channels do not survive a fork: it makes them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._draining = threading.Event()
        self._hang_ups: SimpleQueue[None] = SimpleQueue()
        self._ends: list[Callable[[], None]] = []
        self._metrics: FrontMetrics

    def load(self) -> Callable[..., Any]:
        """Make the application; a feed or a port that cannot be used ends all of gunicorn with a line."""
        try:
            return self._load()
        except (FeedError, OSError, ValueError) as error:
            sys.stderr.write(f"{error}\n")
        raise SystemExit(Arbiter.APP_LOAD_ERROR)

    def _load(self) -> Callable[..., Any]:
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

        from observability import Telemetry
        from services import metrics
        from services.core_log import CoreLog
        from services.faults.admin import Admin
        from services.marketplace.app import create_app
        from services.marketplace.front.metrics import FrontMetrics
        from services.marketplace.recommendations import Recommendations
        from services.marketplace.shop import Shop
        from services.marketplace.store import Store
        from services.stderr import StandardError

        settings = self._settings
        telemetry = Telemetry(
            settings.otel_service_name,
            version=__version__,
            public_endpoint=settings.observability_public_endpoint,
        )
        telemetry.capture_logs(settings.log_level)
        stderr = StandardError(CoreLog(telemetry.registry).take)
        store = Store(
            settings.database_url,
            settings.books_file,
            telemetry.registry,
            settings.database_timeout_ms / 1e3,
            settings.database_connections,
        )
        SQLAlchemyInstrumentor().instrument(engine=store.engine, tracer_provider=telemetry.tracer_provider)
        recommendations = Recommendations(settings, telemetry)
        self._ends = [
            recommendations.close,
            store.close,
            lambda: stderr.close(CORE_LOG_S),
            lambda: telemetry.shutdown(TELEMETRY_S),
        ]
        reload = recommendations.channel.reload_certificates
        threading.Thread(target=self._take_hang_ups, args=(reload,), name="hang-ups", daemon=True).start()
        metrics.serve(telemetry, settings.marketplace_metrics_port, settings)
        self._metrics = FrontMetrics(telemetry.registry)
        self._metrics.threads.set(settings.marketplace_threads)
        shop = Shop(settings, store, recommendations, self._draining)
        if settings.marketplace_faults_port is None:
            return create_app(shop, telemetry)
        admin = Admin("marketplace", settings.marketplace_faults_port)
        self._ends.insert(0, admin.close)
        return create_app(shop, telemetry, admin.switch)

    def open(self, worker: Any) -> None:
        """Open the front. On SIGTERM: not ready at once; the listener closes DRAIN_S later."""
        settings = self._settings
        limits = Limits(
            threads=settings.marketplace_threads,
            queue=settings.marketplace_queue,
            connections=settings.marketplace_connections,
            client_connections=settings.marketplace_client_connections,
            request_s=settings.marketplace_request_s,
            proxies=settings.proxies,
        )
        worker.open(limits, settings.marketplace_wait_ms / 1e3, self._metrics.refuse)
        self._metrics.watch(worker.front)

        def drain(_number: int, _frame: Any) -> None:
            if not self._draining.is_set():
                self._draining.set()
                worker.drain(settings.drain_s, settings.grace_s)

        signal.signal(signal.SIGTERM, drain)
        signal.signal(signal.SIGHUP, lambda *_: self._hang_ups.put(None))

    def _take_hang_ups(self, reload: Callable[[], None]) -> None:
        """Not in the signal's handler, which may have interrupted the holder of a lock that is needed."""
        while True:
            self._hang_ups.get()
            reload()

    def end(self, _arbiter: Any, worker: Any) -> None:
        """The last requests are answered: telemetry goes last."""
        if worker.pid == os.getpid():
            while self._ends:
                self._ends.pop(0)()
