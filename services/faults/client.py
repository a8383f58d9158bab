"""Asks a service that listens on loopback, of this machine or of its container, for its faults."""

import os
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

from services.faults.admin import HOST
from services.faults.catalogue import VARIABLES

TIMEOUT_S = 5.0


class Unreachable(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """No service listens for faults; the message says what to do."""


class Refused(Exception):  # noqa: N818
    """The service refused what was asked for; the message says why."""


@dataclass(frozen=True)
class Local:
    """A service that listens on loopback."""

    service: str
    port: int

    def ask(self, command: str, *values: str) -> str:
        """The answer to now, on or heal. Raises Unreachable or Refused."""
        method = {"now": "GET", "heal": "DELETE", "on": "PUT"}[command]
        connection = HTTPConnection(HOST, self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, _path(*values))
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, HTTPException) as error:
            raise Unreachable(
                f"{self.service}: nobody listens for faults on port {self.port} of {HOST}; start the service "
                f"with {VARIABLES[self.service]} set to it (make run FAULTS=1)"
            ) from error
        finally:
            connection.close()
        if answer.status != 200:  # noqa: PLR2004
            raise Refused(text)
        return text


def here() -> list[Local]:
    """The services whose ports variables say."""
    ports = {service: os.environ.get(variable, "") for service, variable in VARIABLES.items()}
    return [Local(service, int(port)) for service, port in ports.items() if port.isdecimal()]


def _path(name: str = "", *rest: str) -> str:
    return f"/{name}?{urlencode(list(zip(('share', 'ms', 'code'), rest, strict=False)))}"
