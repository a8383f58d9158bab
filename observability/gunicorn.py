"""Hooks for gunicorn with several workers: one /metrics for all of them, and no gauges of dead workers.

Use: `gunicorn -c python:observability.gunicorn ...`, or import the hooks in a custom configuration.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from observability.metrics_server import MetricsServer

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
HOST, PORT = "OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT"


class Workers(Collector):
    """The metrics of all workers, from the files in their folder; raises ValueError when there is none."""

    def __init__(self, directory: str) -> None:
        self._collector = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]
        self._directory = Path(directory)

    def collect(self) -> Iterable[Metric]:
        """All of them, but for a file that a worker is about to begin: prometheus_client cannot read that."""
        files = []
        for path in self._directory.glob("*.db"):
            with suppress(FileNotFoundError):  # of a worker that has just ended
                if path.stat().st_size:
                    files.append(str(path))
        merged: Iterable[Metric] = self._collector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def on_starting(server: Any) -> None:
    """Serve the metrics of all workers from the master, and forget those of an earlier run.

    Raises RuntimeError, which ends gunicorn with a line, when a setting or the port cannot be used.
    """
    directory = os.environ.get(DIRECTORY, "")
    host, port = os.environ.get(HOST) or "localhost", os.environ.get(PORT) or "9464"
    registry = CollectorRegistry()
    try:
        registry.register(Workers(directory))
        server.metrics = MetricsServer(int(port), host, registry)
    except (OSError, OverflowError, ValueError) as error:
        raise RuntimeError(f"{DIRECTORY} {directory!r}, {HOST} {host!r}, {PORT} {port!r}: {error}") from error
    for file in Path(directory).glob("*.db"):
        if not file.stem.endswith(f"_{os.getpid()}"):  # a preloaded application's are the master's own
            file.unlink()
    server.log.info("Metrics of all workers at: http://%s:%d/metrics", host, server.metrics.server_port)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 (gunicorn passes both)
    """Leave the port of the metrics to the master alone."""
    server.metrics.socket.close()


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """Take a dead worker out of the gauges; what it counted stays counted."""
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
