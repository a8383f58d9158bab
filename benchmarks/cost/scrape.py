"""How long a read of /metrics takes, by how many methods a server has.

Run: python -m benchmarks.cost.scrape (prints milliseconds and KiB by methods, as JSON)
"""

import io
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import grpc
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from observability import Telemetry

METHODS = (1, 100, 1000)
SCRAPES = 21
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


class AnyMethod(grpc.GenericRpcHandler):
    """Has every method."""

    def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002
        """A handler that answers with the request."""
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


def scrape(methods: int) -> tuple[float, float]:
    """Milliseconds and KiB of a scrape, when each of the methods has been called."""
    registry = CollectorRegistry()
    telemetry = Telemetry(
        "scrape", tracer_provider=TracerProvider(), registry=registry, log_stream=io.StringIO()
    )
    server = grpc.server(ThreadPoolExecutor(2), interceptors=telemetry.server_interceptors())
    server.add_generic_rpc_handlers((AnyMethod(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number in range(methods):
            method: Any = channel.unary_unary(f"/bench.Service/Method{number}")
            method(b"", timeout=10)
    request = urllib.request.Request(
        f"http://127.0.0.1:{telemetry.serve_metrics(0)}/metrics", headers=OPENMETRICS
    )
    took_ms, size = [], 0
    for _ in range(SCRAPES):
        started = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            size = len(answer.read())
        took_ms.append((time.perf_counter() - started) * 1e3)
    server.stop(None).wait()
    telemetry.shutdown()
    return median(took_ms), size / 1024


if __name__ == "__main__":
    print(json.dumps({methods: scrape(methods) for methods in METHODS}))
