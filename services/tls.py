"""TLS of the services: files that cannot be used end the start, and new ones are taken while it runs."""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc

logger = logging.getLogger(__name__)
Version = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Files:
    """PEM files, and the variables that name them: a certificate chain, its private key, and a CA.

    A server has the first two, a client has the last; each needs all three for mutual TLS.
    """

    names: tuple[str, str, str]
    cert: Path | None
    key: Path | None
    ca: Path | None

    def check(self) -> None:
        """Raise ValueError, which names file and reason, unless all can be used, and key and chain fit."""
        for name, file in ((self.names[0], self.cert), (self.names[2], self.ca)):
            if file is not None:
                try:
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
                except OSError as error:
                    raise ValueError(_reason(name, file, "a PEM file with a certificate", error)) from None
        if self.cert is not None and self.key is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
            except OSError as error:
                what = f"the private key (PEM, without a passphrase) of {self.names[0]}"
                raise ValueError(_reason(self.names[1], self.key, what, error)) from None

    def read(self) -> tuple[Any, Any, Any]:
        """What is in them: chain, key and CA."""
        cert, key, ca = (file.read_bytes() if file else None for file in (self.cert, self.key, self.ca))
        return cert, key, ca

    def version(self) -> Version:
        """A value that changes when one of the files changes."""
        stats = [file.stat() for file in (self.cert, self.key, self.ca) if file]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


class Checked(Protocol):
    """Files, with the variables that name them, that can say whether they can be used."""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""

    def check(self) -> None:
        """Raise OSError or ValueError unless they can be used."""

    def version(self) -> Version:
        """A value that changes when one of the files changes."""


class Watched:
    """Files whose latest good version is in use. While one is being written, that is the one before."""

    def __init__(self, files: Checked) -> None:
        self.files = files
        self._version = files.version()

    def is_new(self, again: bool = False) -> bool:
        """Whether the files have changed since the last look, or again is set, and they can be used."""
        try:
            version = self.files.version()
            if version == self._version and not again:
                return False
            self._version = version
            self.files.check()
        except (OSError, ValueError) as error:
            logger.error("the files read before stay in use: %s", error)
            return False
        logger.info("read again, and in use for new connections: %s", ", ".join(self.files.names))
        return True


class ServerTls:
    """Credentials of a server that follow the files. With a CA, clients must have a certificate of it."""

    def __init__(self, files: Files) -> None:
        self._files, self._watched = files, Watched(files)
        self._is_stale = False
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._read(), self._read_again, require_client_authentication=files.ca is not None
        )

    def reload(self) -> None:
        """Read the files, changed or not; new connections use what is in them."""
        if self._watched.is_new(again=True):
            self._is_stale = True

    def _read_again(self) -> Any:
        """gRPC asks for each new connection; None: as before."""
        if not self._watched.is_new() and not self._is_stale:
            return None
        self._is_stale = False
        return self._read()

    def _read(self) -> grpc.ServerCertificateConfiguration:
        cert, key, ca = self._files.read()
        return grpc.ssl_server_certificate_configuration([(key, cert)], ca)


def channel(target: str, files: Files | None, options: Sequence[tuple[str, Any]]) -> grpc.Channel:
    """A channel that trusts the CA, and shows the certificate if there is one; without files, no TLS."""
    if files is None:
        return grpc.insecure_channel(target, options)
    cert, key, ca = files.read()
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert), options)


def _reason(name: str, file: Path, what: str, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return f"{name} must be {what}, got {str(file)!r}: {reason}"
