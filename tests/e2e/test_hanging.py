"""A service starts while all that it uses hangs, and stops in time while everything else hangs, too."""

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from observability.testing import eventually
from services.faults.client import Local
from tests.chaos.machine import Machine
from tests.e2e.processes import free_ports, get
from tests.e2e.test_database import locked
from tests.e2e.test_holding_out import recommend, unread

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.full

DRAIN_S, GRACE_S = 0.5, 3.0  # as they are by default
STOP_S = DRAIN_S + GRACE_S + 2
CPU_S = 0.5  # that a stop may need
ACTIVE = r"http_server_active_requests{.*} 1\.0"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port at which somebody listens and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


def assert_stops(service: "subprocess.Popen[bytes]", machine: Machine) -> None:
    """SIGTERM ends it with 0 within the grace and two seconds, if the machine is no slower than alone."""
    begun_s = time.monotonic()
    service.send_signal(signal.SIGTERM)
    assert service.wait(60) == 0
    assert time.monotonic() - begun_s < STOP_S + CPU_S * machine.slowdown(begun_s)


def test_the_shop(silent: int, tmp_path: Path) -> None:
    """Recommendations and the collector hang, its database is locked, nobody reads its log, a page is stuck."""
    port, metrics, faults = free_ports(3)
    variables = {
        "MARKETPLACE_PORT": str(port),
        "MARKETPLACE_METRICS_PORT": str(metrics),
        "MARKETPLACE_FAULTS_PORT": str(faults),
        "RECOMMENDATIONS_PORT": str(silent),
        "DATABASE_URL": f"sqlite:///{tmp_path}/books.sqlite3",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent}",
    }
    with ExitStack() as stack:
        machine = stack.enter_context(closing(Machine()))
        stack.enter_context(locked(tmp_path / "books.sqlite3"))
        shop = stack.enter_context(unread("marketplace", tmp_path, **variables))
        eventually(lambda: get(f"http://127.0.0.1:{port}/livez")[0] == 200, 30)
        assert get(f"http://127.0.0.1:{port}/")[0] == 200
        assert get(f"http://127.0.0.1:{port}/books")[0] == 503
        Local("marketplace", faults).ask("on", "stuck", "1")
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        eventually(lambda: re.search(ACTIVE, get(f"http://127.0.0.1:{metrics}/metrics", "text/plain")[1]))
        assert_stops(shop, machine)


def test_recommendations(silent: int, tmp_path: Path) -> None:
    """The collector hangs, nobody reads its log, and a call takes longer than it has."""
    port, metrics, faults = free_ports(3)
    variables = {
        "RECOMMENDATIONS_PORT": str(port),
        "RECOMMENDATIONS_METRICS_PORT": str(metrics),
        "RECOMMENDATIONS_FAULTS_PORT": str(faults),
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent}",
    }

    def call() -> None:
        with suppress(grpc.RpcError):
            recommend(port)

    with ExitStack() as stack:
        machine = stack.enter_context(closing(Machine()))
        service = stack.enter_context(unread("recommendations", tmp_path, **variables))
        assert recommend(port) == 2
        Local("recommendations", faults).ask("on", "slow", "1", "10000")
        calling = threading.Thread(target=call)
        calling.start()
        in_flight = 'grpc_server_in_flight{grpc_method="Recommend",grpc_service="Recommendations",grpc_type="unary"} 1.0'
        eventually(lambda: in_flight in get(f"http://127.0.0.1:{metrics}/metrics", "text/plain")[1])
        assert_stops(service, machine)
        calling.join()
