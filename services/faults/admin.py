"""The listener by which faults are switched: HTTP on this process's own loopback address, and nowhere else.

`GET /` lists what is on, `PUT /NAME?share=&ms=&code=` switches on, `DELETE /` heals.
"""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from services.faults.switch import BadFault, Switch

HOST = "127.0.0.1"
CRASH_CODE = 70
FIELDS = {"share", "ms", "code"}
TIMEOUT_S = 5.0


class Admin:
    """Listens until it is closed. Raises OSError when the port is taken."""

    def __init__(self, service: str, port: int) -> None:
        self.switch = Switch(service)
        self._server = _Server((HOST, port), self.switch)
        self._thread = threading.Thread(target=self._server.serve_forever, name="faults", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Heal, so that no request is held, and stop listening."""
        self.switch.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], switch: Switch) -> None:
        self.switch = switch
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = TIMEOUT_S

    def parse_request(self) -> bool:
        """Refuse a browser: DNS rebinding lets a web page use this address as its own host."""
        if not super().parse_request():
            return False
        if "Origin" in self.headers or self.headers.get("Host") != f"{HOST}:{self.server.server_port}":
            self._answer(403, "not for browsers")
            return False
        return True

    def do_GET(self) -> None:
        """What is on."""
        self._answer(200, self.server.switch.now() or "no fault is on")

    def do_PUT(self) -> None:
        """Switch a fault on."""
        url = urlsplit(self.path)
        name, values = url.path.strip("/"), dict(parse_qsl(url.query))
        try:
            self.server.switch.on(name, **{key: values[key] for key in values.keys() & FIELDS})
        except BadFault as error:
            self._answer(400, str(error))
            return
        self._answer(200, f"on: {name}")
        if name == "crash":
            os._exit(CRASH_CODE)

    def do_DELETE(self) -> None:
        """Heal."""
        self._answer(200, f"healed: {', '.join(self.server.switch.heal()) or 'nothing was on'}")

    def log_message(self, *_: object) -> None:
        """Log nothing: the switch logs what matters."""

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
