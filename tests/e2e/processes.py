"""The services as processes, on free ports, sending their traces to a real receiver."""

import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from observability import receiver
from observability.testing import eventually
from tools.run.config import stable_names

ROOT = Path(__file__).parents[2]
WORKERS = 8  # of pytest-xdist
PORTS = 2750  # of each


GIVEN: set[int] = set()  # by this process: whoever was given one may not listen yet


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, below those that Linux hands out to clients; each worker has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    lowest = 10_081 + worker * PORTS  # browsers refuse 10080
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = random.randrange(lowest, lowest + PORTS)
            if port in GIVEN:
                continue
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            ports.append(port)
    GIVEN.update(ports)
    return ports


class Receiver(receiver.Receiver):
    """A real OTLP receiver that keeps what it gets; spans are (service, span)."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.spans: list[tuple[str, Any]] = []
        super().__init__(self._keep, host)

    def _keep(self, resource: dict[str, Any], spans: Sequence[Any]) -> None:
        self.spans += [(resource["service.name"], span) for span in spans]


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send the signal; the exit code. What has not ended after 30 s is killed, and raises TimeoutExpired."""
    process.send_signal(number)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


class Service:
    """One service as a process; before is what its command line begins with."""

    def __init__(self, name: str, directory: Path, before: Sequence[str] = (), **variables: str) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        own = {"PYTHONPATH": str(ROOT), "OTEL_TRACES_EXPORTER": "none"} | stable_names({})
        environ = inherited | own | variables
        self.log = directory / f"{name}.log"
        self.errors = directory / f"{name}.err"
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            command = [*before, sys.executable, "-m", f"services.{name}"]
            self.process = subprocess.Popen(command, cwd=directory, env=environ, stdout=log, stderr=errors)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal; the exit code."""
        return end(self.process, number)


# However slow the machine is, no deadline passes.
PATIENT = dict.fromkeys(("RECOMMENDATIONS_TIMEOUT_MS", "DATABASE_TIMEOUT_MS", "MARKETPLACE_WAIT_MS"), "20000")


class Pair:
    """Both services, ready."""

    def __init__(self, directory: Path, destination: receiver.Receiver, **variables: str) -> None:
        shop, shop_metrics, self.grpc, grpc_metrics = free_ports(4)
        self.url = f"http://127.0.0.1:{shop}"
        self.metrics = {"marketplace": shop_metrics, "recommendations": grpc_metrics}
        self._directory = directory
        self.variables = {
            "MARKETPLACE_PORT": str(shop),
            "MARKETPLACE_METRICS_PORT": str(shop_metrics),
            "RECOMMENDATIONS_PORT": str(self.grpc),
            "RECOMMENDATIONS_METRICS_PORT": str(grpc_metrics),
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": destination.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        } | variables
        self._started: list[Service] = []
        try:
            self.recommendations = self.start("recommendations")
            self.marketplace = self.start("marketplace")
            eventually(lambda: self.get("/readyz")[0] == 200, 30)
            eventually(lambda: "NOT_FOUND" in self.get("/?category=42")[1], 30)
        except BaseException:
            self.close()
            raise

    def start(self, name: str) -> Service:
        self._started.append(Service(name, self._directory, **self.variables))
        return self._started[-1]

    def get(self, path: str) -> tuple[int, str, dict[str, str]]:
        return get(self.url + path)

    def scrape(self, service: str, accept: str = "text/plain") -> str:
        return get(f"http://127.0.0.1:{self.metrics[service]}/metrics", accept)[1]

    def close(self) -> None:
        with ExitStack() as stopping:  # each, whatever becomes of the others
            for service in self._started:
                if service.process.poll() is None:
                    stopping.callback(service.stop)


def get(url: str, accept: str = "*/*") -> tuple[int, str, dict[str, str]]:
    """Status (0: nobody listens), body and headers."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ConnectionRefusedError):
            raise
        return 0, "", {}


@contextmanager
def pair(directory: Path, **variables: str) -> Iterator[tuple[Pair, Receiver]]:
    with closing(Receiver()) as taking, closing(Pair(directory, taking, **variables)) as both:
        yield both, taking
