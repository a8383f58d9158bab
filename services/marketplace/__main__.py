"""`python -m services.marketplace`: reads the settings, serves pages, and stops on SIGTERM or SIGINT.

SIGHUP has it read its certificates again.
"""

import logging
import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from services.faults.admin import HOST
from services.marketplace.config import Settings
from services.marketplace.front.worker import MEANINGLESS
from services.marketplace.worker import TELEMETRY_S, Worker
from services.ports import PortTaken, require_free
from services.settings import load


class ShopServer(BaseApplication):
    """gunicorn, with one process of many threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._worker = Worker(settings)
        super().__init__()

    def load_config(self) -> None:
        """Give gunicorn its settings; nothing is read from its command line or variables."""
        settings = self._settings
        values: dict[str, Any] = {
            "bind": settings.address(settings.marketplace_port),
            "worker_class": "services.marketplace.front.worker.ShopWorker",
            "workers": 1,
            "timeout": settings.marketplace_frozen_s,
            "graceful_timeout": math.ceil(settings.drain_s + settings.grace_s + TELEMETRY_S),
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108
            "logger_class": "services.marketplace.worker.PlainLogger",
            "control_socket_disable": True,
            "forwarded_allow_ips": "",  # gunicorn believes nobody; front.proxies does, whom it may
            "when_ready": _take_signals,
            "post_worker_init": self._worker.open,
            "worker_exit": self._worker.end,
        }
        for name, value in values.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        """The application; gunicorn asks for it in the worker process."""
        return self._worker.load()


def main() -> None:
    """Serve until asked to stop; the exit code says how it went (not 0: a wrong setting, feed or port)."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until gunicorn takes them: nothing is open yet
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it serves
    settings = load(Settings)
    logging.getLogger().addHandler(logging.NullHandler())  # the worker writes the log
    try:
        require_free(settings.bind_host, settings.marketplace_port, "MARKETPLACE_PORT")
        require_free(settings.bind_host, settings.marketplace_metrics_port, "MARKETPLACE_METRICS_PORT")
        if settings.marketplace_faults_port:
            require_free(HOST, settings.marketplace_faults_port, "MARKETPLACE_FAULTS_PORT")
    except PortTaken as error:
        sys.exit(str(error))
    ShopServer(settings).run()


def _take_signals(arbiter: Arbiter) -> None:
    """Ctrl-C stops gently, and SIGHUP is for the worker, which has the certificates.

    gunicorn's signals would start more workers, which cannot share the ports.
    """
    signal.signal(signal.SIGINT, lambda _, frame: arbiter.signal(signal.SIGTERM, frame))
    signal.signal(signal.SIGHUP, lambda number, _: arbiter.kill_workers(number))
    for number in MEANINGLESS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
