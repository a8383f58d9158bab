"""The names under which the shop is asked for: a request's Host header, checked before anything uses it."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.exceptions import BadRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A name as in RFC 1123, section 2.1, or an address, then a port or none.
HOST = re.compile(r"([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){0,40}\.?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?")
PROBES = {"/livez", "/readyz"}  # whoever probes may know nothing but the address of this instance


def install(app: Flask, allowed: frozenset[str]) -> None:
    """Refuse requests for other hosts as 400; none allowed means that all are, if they are names."""
    app.wsgi_app = _Hosts(app.wsgi_app, allowed)  # type: ignore[method-assign]
    app.url_map.merge_slashes = False  # its redirects name the host that the client gave


class _Hosts:
    def __init__(self, wsgi_app: "WSGIApplication", allowed: frozenset[str]) -> None:
        self._wsgi_app, self._allowed = wsgi_app, allowed

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if self._is_good(environ.get("HTTP_HOST"), environ["PATH_INFO"]):
            return self._wsgi_app(environ, start_response)
        return BadRequest("The Host header does not name this shop.")(environ, start_response)

    def _is_good(self, host: str | None, path: str) -> bool:
        if host is None:
            return not self._allowed or path in PROBES
        match = HOST.fullmatch(host.lower())
        if match is None:
            return False
        return not self._allowed or match[1] in self._allowed or path in PROBES
