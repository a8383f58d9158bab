"""The methods of the last minutes, read from the /metrics of real telemetry."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from services.settings import ServiceSettings
from tools.scrape import Endpoint
from tools.traces.methods import Method, Recent


def endpoint(port: int) -> Endpoint:
    return Endpoint(f"127.0.0.1:{port}", ServiceSettings())


class Metrics:
    """The metrics of a service, and what reads them."""

    def __init__(self, recent: Recent, handled: Counter, seconds: Histogram) -> None:
        self.recent, self.handled, self.seconds = recent, handled, seconds

    def call(self, status: str, seconds: float) -> None:
        self.handled.labels("S", "M", status).inc()
        self.seconds.labels("S", "M").observe(seconds)

    def method(self) -> Method:
        (method,) = self.recent.methods()
        return method


@pytest.fixture(params=["server", "client"])
def metrics(request: pytest.FixtureRequest) -> Iterator[Metrics]:
    registry = CollectorRegistry()
    side = request.param
    labels = ["grpc_service", "grpc_method"]
    handled = Counter(f"grpc_{side}_handled", "calls", [*labels, "grpc_code"], registry=registry)
    seconds = Histogram(
        f"grpc_{side}_handling_seconds", "durations", labels, buckets=[0.1, 0.2, 0.4], registry=registry
    )
    server, thread = start_http_server(0, "127.0.0.1", registry)
    with closing(Recent({"shop": endpoint(server.server_port), "gone": endpoint(1)})) as recent:
        yield Metrics(recent, handled, seconds)
    server.shutdown()
    server.server_close()
    thread.join()


def test_durations_are_interpolated(metrics: Metrics) -> None:
    """A quantile lies within its bucket where Prometheus would have it, and above the last one is its bound."""
    for _ in range(8):
        metrics.call("OK", 0.05)
    metrics.call("OK", 0.15)
    metrics.call("OK", 9.0)
    method = metrics.method()
    assert method.quantile_ms(0.4) == pytest.approx(50)
    assert method.quantile_ms(0.85) == pytest.approx(150)
    assert method.quantile_ms(0.99) == pytest.approx(400)
    assert (method.name, method.count, method.statuses) == ("S/M", 10, {"OK": 10})


def test_errors_are_those_of_the_side(metrics: Metrics) -> None:
    """A server's errors are its own faults; to a client every status but OK is one."""
    for status in ("OK", "OK", "NOT_FOUND", "INTERNAL"):
        metrics.call(status, 0.01)
    method = metrics.method()
    assert method.errors == {"server": 0.25, "client": 0.5}[method.side]
    assert method.rate == pytest.approx(4 / method.seconds)
