"""Serves the page on loopback."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from werkzeug.serving import WSGIRequestHandler, make_server

from tools.run.page.app import create_app
from tools.run.page.kept import Kept
from tools.run.page.methods import Recent


class Page:
    """Serves, on threads of its own, until it is closed. The port must be free.

    metrics has the host:port of each service's /metrics, logs the files of log lines; shop is the address of
    the shop.
    """

    def __init__(
        self, kept: Kept, host: str, port: int, metrics: Mapping[str, str], logs: Sequence[Path], shop: str
    ) -> None:
        self._recent = Recent(metrics)
        app = create_app(kept, self._recent, logs, shop)
        self._server = make_server(host, port, app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._recent.close()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Print nothing: the terminal is for the traces."""
