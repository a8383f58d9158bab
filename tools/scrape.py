"""A service's /metrics, read on its machine with its own files: certificate, key and token."""

import ssl
from pathlib import Path
from typing import Any, NamedTuple

from services.settings import ServiceSettings
from tools.web import ask

OK = 200


class Endpoint(NamedTuple):
    """The host:port of a /metrics, and the settings by which it is guarded.

    Its certificate is trusted because it is the one of METRICS_CERT_FILE. Where clients need a certificate,
    that one is shown, which METRICS_CLIENT_CA_FILE must have signed.
    """

    address: str
    settings: ServiceSettings

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.settings.metrics_tls else 'http'}://{self.address}/metrics"

    @property
    def is_guarded(self) -> bool:
        """Whether not everybody may read it."""
        return self.settings.metrics_tls is not None or self.settings.metrics_tokens is not None

    def read(self) -> str:
        """What it says. Raises OSError when it does not answer, or refuses, or a file cannot be used."""
        tokens, headers = self.settings.metrics_tokens, {}
        try:
            if tokens is not None:
                headers["Authorization"] = f"Bearer {tokens.read()[0]}"
        except ValueError as error:
            raise OSError(str(error)) from None
        answer = ask(self.url, headers=headers, context=self._context())
        if answer.status != OK:
            raise OSError(f"{self.url} must answer 200, got {answer.status}")
        return answer.text

    def job(self, name: str) -> dict[str, Any]:
        """What Prometheus needs to scrape it."""
        settings = self.settings
        job: dict[str, Any] = {"job_name": name, "static_configs": [{"targets": [self.address]}]}
        if settings.metrics_cert_file:
            cert = str(settings.metrics_cert_file.absolute())
            job |= {"scheme": "https", "tls_config": {"ca_file": cert}}
            if settings.metrics_client_ca_file:
                key = str(Path(str(settings.metrics_key_file)).absolute())
                job["tls_config"] |= {"cert_file": cert, "key_file": key}
        if settings.metrics_token_file:
            job["authorization"] = {"credentials_file": str(settings.metrics_token_file.absolute())}
        return job

    def _context(self) -> ssl.SSLContext | None:
        files = self.settings.metrics_tls
        if files is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # no other certificate is trusted, whatever its names are
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(files.cert)
        if files.ca is not None:
            context.load_cert_chain(str(files.cert), files.key)
        return context
