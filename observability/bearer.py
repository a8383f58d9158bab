"""Bearer tokens before a WSGI application: RFC 6750, compared in constant time."""

import hmac
import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
Tokens = Collection[str] | Callable[[], Collection[str]]


class Guarded:
    """The application, for requests with one of the tokens; others are answered with 401."""

    def __init__(self, app: "WSGIApplication", tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens if callable(tokens) else lambda: tokens

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        is_bearer = scheme.lower() == "bearer"
        if is_bearer and self._is_good(given.strip().encode("latin-1", "replace")):
            return self._app(environ, start_response)
        challenge = 'Bearer realm="metrics"' + (', error="invalid_token"' if is_bearer else "")
        body = b"401 Unauthorized\n"
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        start_response("401 Unauthorized", [("WWW-Authenticate", challenge), *headers])
        return [body]

    def _is_good(self, given: bytes) -> bool:
        return given != b"" and any(hmac.compare_digest(given, token.encode()) for token in self._tokens())
