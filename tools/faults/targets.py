"""Where the running services are: here on loopback, or in the containers of compose."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from services.faults.catalogue import DEFAULT_PORTS, VARIABLES
from services.faults.client import Local, Refused, Unreachable, here

COMPOSE_S = 30.0
KILLED = 137


@dataclass(frozen=True)
class Container:
    """A replica of a service under compose, asked from within."""

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
        return done.stdout.strip()


Target = Local | Container


def targets(service: str = "") -> list[Target]:
    """Those of one service, or of all: as variables say, else what compose runs, else make run's ports.

    Raises Unreachable when there is none.
    """
    found = here() or _composed() or [Local(name, port) for name, port in DEFAULT_PORTS.items()]
    chosen = [target for target in found if service in {"", target.service}]
    if not chosen:
        raise Unreachable(f"{service}: it was not found; start it, or set {VARIABLES[service]}")
    return chosen


def _composed() -> list[Target]:
    return [Container(service, replica) for service in VARIABLES for replica in _replicas(service)]


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
