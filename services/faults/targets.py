"""Where the running services are: here on loopback, or in the containers of compose."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

from services.faults.admin import HOST
from services.faults.catalogue import DEFAULT_PORTS, VARIABLES

TIMEOUT_S = 5.0
COMPOSE_S = 30.0
KILLED = 137


class Unreachable(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """No service listens for faults; the message says what to do."""


class Refused(Exception):  # noqa: N818
    """The service refused what was asked for; the message says why."""


@dataclass(frozen=True)
class Local:
    """A service that listens on this machine's (or this container's) loopback."""

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


@dataclass(frozen=True)
class Container:
    """A replica of a service under compose; this very program runs in it."""

    service: str
    id: str

    def ask(self, command: str, *values: str) -> str:
        """The answer to now, on or heal. Raises Unreachable or Refused."""
        done = _run(["docker", "exec", self.id, "python", "-m", "services.faults", command, *values])
        if done.returncode == 2:  # noqa: PLR2004
            raise Refused(done.stderr.strip())
        if done.returncode == KILLED:
            return "its container ended"
        if done.returncode:
            raise Unreachable(
                f"{self.service}: nobody listens for faults in its container; allow them with "
                "FAULTS=1 docker compose up -d --wait"
            )
        return done.stdout.strip().removeprefix(f"{self.service}: ")


Target = Local | Container


def targets(service: str = "") -> list[Target]:
    """Those of one service, or of all: as variables say, else what compose runs, else make run's ports.

    Raises Unreachable when there is none.
    """
    found = _from_variables() or _composed() or [Local(name, port) for name, port in DEFAULT_PORTS.items()]
    chosen = [target for target in found if service in {"", target.service}]
    if not chosen:
        raise Unreachable(f"{service}: it was not found; start it, or set {VARIABLES[service]}")
    return chosen


def _from_variables() -> list[Target]:
    ports = {service: os.environ.get(variable, "") for service, variable in VARIABLES.items()}
    return [Local(service, int(port)) for service, port in ports.items() if port.isdecimal()]


def _composed() -> list[Target]:
    return [Container(service, replica) for service in VARIABLES for replica in _replicas(service)]


def _path(name: str = "", *rest: str) -> str:
    return f"/{name}?{urlencode(list(zip(('share', 'ms', 'code'), rest, strict=False)))}"


def _replicas(service: str) -> list[str]:
    if shutil.which("docker") is None:
        return []
    done = _run(["docker", "compose", "ps", "--quiet", "--status", "running", service])
    return done.stdout.split() if done.returncode == 0 else []


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, text=True, capture_output=True, timeout=COMPOSE_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"{' '.join(command[:2])}: no answer within {COMPOSE_S:g} s\n")
        return subprocess.CompletedProcess(command, 1, "", "no answer in time")
