"""The listener of /metrics: a scrape is answered however many clients connect and say nothing."""

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import BufferedIOBase
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from observability.bearer import Guarded, Tokens

MOST_CLIENTS = 16  # at once, each with a thread
SILENT_S = 5.0

logger = logging.getLogger(__name__)
Context = ssl.SSLContext | Callable[[], ssl.SSLContext]


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves a registry until it is closed; port 0 takes any. Raises OSError when the port is taken.

    When there are too many clients, one more takes the place of the one that has been silent for longest. A
    client's TLS handshake is in its own thread, and it is silent until its request comes.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        port: int,
        host: str,
        registry: CollectorRegistry,
        ssl_context: Context | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._ssl_context = ssl_context
        self._lock = threading.Lock()
        self._is_silent: dict[socket.socket, bool] = {}  # by client, the oldest first: no request yet
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)
        app = make_wsgi_app(registry)
        self.set_app(app if tokens is None else Guarded(app, tokens))
        self._thread = threading.Thread(target=self.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()
        self._thread.join(1)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a client. Raises OSError when it cannot be served."""
        client, address = super().get_request()
        if self._ssl_context is None:
            return client, address
        try:
            context = self._ssl_context() if callable(self._ssl_context) else self._ssl_context
            return context.wrap_socket(client, server_side=True, do_handshake_on_connect=False), address
        except OSError:
            client.close()
            raise
        except Exception as error:
            client.close()
            logger.exception("ssl_context must return an ssl.SSLContext: a client of /metrics is turned away")
            raise OSError from error

    def verify_request(self, request: Any, _address: Any) -> bool:
        """Whether there is room for the client, which is made if anybody is silent."""
        with self._lock:
            if len(self._is_silent) >= MOST_CLIENTS:
                oldest = next((client for client, silent in self._is_silent.items() if silent), None)
                if oldest is None:
                    return False
                del self._is_silent[oldest]
                with suppress(
                    OSError
                ):  # its thread finds out and ends; TLS' own would send in plain from here
                    socket.socket.shutdown(oldest, socket.SHUT_RDWR)
            self._is_silent[request] = True
            return True

    def asked(self, request: socket.socket) -> None:
        """The client's request has come: it keeps its place."""
        with self._lock:
            if request in self._is_silent:
                self._is_silent[request] = False

    def shutdown_request(self, request: Any) -> None:
        """Let the client go."""
        with self._lock:
            self._is_silent.pop(request, None)
        if isinstance(request, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                request.settimeout(0)  # say that it is the end, and wait for no answer
                request.unwrap()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what fails, but for clients that go or are silent."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(WSGIRequestHandler):
    server: MetricsServer
    timeout = SILENT_S
    disable_nagle_algorithm = True  # a response is several writes: over TLS, each would wait for the client

    def setup(self) -> None:
        """Make the TLS handshake, if there is one."""
        super().setup()
        self.wfile = _Writer(self.connection)
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()

    def get_environ(self) -> dict[str, Any]:
        self.server.asked(self.connection)
        return super().get_environ()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Writer(BufferedIOBase):
    """Writes to a client. One that goes, over TLS or not, is an error that wsgiref does not print."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            self._client.sendall(data)
        except OSError as error:
            raise ConnectionAbortedError from error
        return len(data)
