"""The services as processes, on free ports, sending their traces to a real receiver."""

import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from observability.testing import eventually
from tools.run.conventions import stable_names

ROOT = Path(__file__).parents[2]
WORKERS = 8  # of pytest-xdist
PORTS = 2750  # of each


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, below those that Linux hands out to clients; each worker has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    lowest = 10_000 + worker * PORTS
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = random.randrange(lowest, lowest + PORTS)
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            ports.append(port)
    return ports


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """A real OTLP receiver; spans are (service, span)."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.spans: list[tuple[str, Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://{host}:{self._server.add_insecure_port(f'{host}:0')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(attributes["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def close(self) -> None:
        self._server.stop(None).wait()


class Service:
    """One service as a process of its own."""

    def __init__(self, name: str, directory: Path, **variables: str) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        own = {"PYTHONPATH": str(ROOT), "OTEL_TRACES_EXPORTER": "none"} | stable_names({})
        environ = inherited | own | variables
        self.log = directory / f"{name}.log"
        self.errors = directory / f"{name}.err"
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            command = [sys.executable, "-m", f"services.{name}"]
            self.process = subprocess.Popen(command, cwd=directory, env=environ, stdout=log, stderr=errors)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


class Pair:
    """Both services, ready."""

    def __init__(self, directory: Path, receiver: Receiver, **variables: str) -> None:
        shop, shop_metrics, self.grpc, grpc_metrics = free_ports(4)
        self.url = f"http://127.0.0.1:{shop}"
        self.metrics = {"marketplace": shop_metrics, "recommendations": grpc_metrics}
        self._directory = directory
        self._variables = {
            "MARKETPLACE_PORT": str(shop),
            "MARKETPLACE_METRICS_PORT": str(shop_metrics),
            "RECOMMENDATIONS_PORT": str(self.grpc),
            "RECOMMENDATIONS_METRICS_PORT": str(grpc_metrics),
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        } | variables
        self.recommendations = self.start("recommendations")
        self.marketplace = self.start("marketplace")
        try:
            eventually(lambda: self.get("/readyz")[0] == 200, 30)
            eventually(lambda: "NOT_FOUND" in self.get("/?category=42")[1], 30)
        except BaseException:
            self.close()
            raise

    def start(self, name: str) -> Service:
        return Service(name, self._directory, **self._variables)

    def get(self, path: str) -> tuple[int, str, dict[str, str]]:
        return get(self.url + path)

    def scrape(self, service: str, accept: str = "text/plain") -> str:
        return get(f"http://127.0.0.1:{self.metrics[service]}/metrics", accept)[1]

    def close(self) -> None:
        for service in (self.marketplace, self.recommendations):
            if service.process.poll() is None:
                service.stop()


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
    with closing(Receiver()) as receiver, closing(Pair(directory, receiver, **variables)) as both:
        yield both, receiver
