"""How /metrics is guarded: by TLS, clients' certificates and bearer tokens, from files that may change."""

import ssl
from contextlib import suppress

from observability import Telemetry
from services.settings import ServiceSettings
from services.tls import Files, Watched
from services.tokens import TokenFile


def serve(telemetry: Telemetry, port: int, settings: ServiceSettings) -> int:
    """Serve it as the settings say, and return the port. Raises OSError when the port is taken."""
    tls, tokens = settings.metrics_tls, settings.metrics_tokens
    return telemetry.serve_metrics(
        port,
        settings.bind_host,
        ssl_context=_Contexts(tls) if tls else None,
        tokens=_Tokens(tokens) if tokens else None,
    )


class _Contexts:
    """A context from the latest good files: a new one, because the old one keeps trusting the old CA."""

    def __init__(self, files: Files) -> None:
        self._files, self._watched = files, Watched(files)
        self._context = _context(files)

    def __call__(self) -> ssl.SSLContext:
        if self._watched.is_new():
            with suppress(OSError):  # changed once more since: the next client's
                self._context = _context(self._files)
        return self._context


class _Tokens:
    """The tokens of the latest good file."""

    def __init__(self, file: TokenFile) -> None:
        self._file, self._watched = file, Watched(file)
        self._tokens = file.read()

    def __call__(self) -> tuple[str, ...]:
        if self._watched.is_new():
            with suppress(ValueError):
                self._tokens = self._file.read()
        return self._tokens


def _context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(files.cert), files.key)
    if files.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.ca)
    return context
