"""What takes no service away: readers of logs that stop, clients by the hundred, requests that are no text."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest

from benchmarks.wire import PREFACE, frame, header
from observability.testing import eventually
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.recommendations.server import MOST_CONNECTIONS
from tests.e2e.processes import ROOT, Pair, free_ports, get, pair

pytestmark = pytest.mark.full

NAMES = ("marketplace", "recommendations")


def recommend(port: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = RecommendationRequest(max_results=2)
        return len(
            RecommendationsStub(channel).Recommend(request, timeout=30, wait_for_ready=True).recommendations
        )


def status_of(process: int, field: str) -> int:
    """A number of /proc/PID/status."""
    found = re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def serving(running: Pair, name: str) -> int:
    """The id of the process that serves."""
    process = getattr(running, name).process.pid
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(children[0]) if children else process


@contextmanager
def unread(name: str, directory: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service whose standard output is a pipe that is full and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"\n" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    environ = (
        os.environ
        | {"PYTHONPATH": str(ROOT), "OTEL_TRACES_EXPORTER": "none", "LOG_LEVEL": "DEBUG"}
        | variables
    )
    command = [sys.executable, "-m", f"services.{name}"]
    process = subprocess.Popen(command, cwd=directory, env=environ, stdout=writer)
    os.close(writer)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(reader)


def test_nobody_reads_the_logs(tmp_path: Path) -> None:
    """With standard output full from the start, pages and calls go on, and SIGTERM ends both with 0, in time."""
    shop, shop_metrics, port, metrics = free_ports(4)
    variables = {
        "MARKETPLACE_PORT": str(shop),
        "MARKETPLACE_METRICS_PORT": str(shop_metrics),
        "RECOMMENDATIONS_PORT": str(port),
        "RECOMMENDATIONS_METRICS_PORT": str(metrics),
    }
    with ExitStack() as stack:
        services = [stack.enter_context(unread(name, tmp_path, **variables)) for name in NAMES]
        eventually(lambda: get(f"http://127.0.0.1:{shop}/readyz")[0] == 200, 30)
        eventually(lambda: get(f"http://127.0.0.1:{metrics}/metrics")[0] == 200, 30)
        for _ in range(300):
            assert get(f"http://127.0.0.1:{shop}/books")[0] == 200
        for _ in range(50):
            assert recommend(port) == 2
        for service in services:
            service.send_signal(signal.SIGTERM)
        assert [service.wait(30) for service in services] == [0, 0]


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    """A gRPC request whose :path is not UTF-8 is refused, counted, and ends nothing: pages have recommendations."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": b"/\xff/x", b":authority": b"x",
              b"te": b"trailers", b"content-type": b"application/grpc"}  # fmt: skip
    headers = frame(1, 5, 1, b"".join(header(*field) for field in fields.items()))
    with pair(tmp_path) as (running, _):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", running.grpc), timeout=30) as client:
                client.sendall(PREFACE + frame(4, 0, 0, b"") + headers + frame(6, 0, 0, b"all read"))
                answer = b""
                while frame(6, 1, 0, b"all read") not in answer:
                    answer += client.recv(4096)
        assert recommend(running.grpc) == 2
        assert "Recommendations are not available now" not in running.get("/")[1]
        refused = r'^grpc_server_handled_total{grpc_code="UNIMPLEMENTED",grpc_method="_OTHER".*} (\S+)$'
        assert eventually(lambda: re.findall(refused, running.scrape("recommendations"), re.MULTILINE)) == [
            "3.0"
        ]


LOST = """
import threading
from services.recommendations.__main__ import main
from services.recommendations.server import Server

class Losing(Server):
    def start(self):
        super().start()
        threading.Timer(1, self._server.stop, [None]).start()

main.__globals__["Server"] = Losing
raise SystemExit(main())
"""


def test_a_lost_listener_ends_the_process(tmp_path: Path) -> None:
    """When gRPC listens no more, for whatever reason, the process says so and ends with its own code."""
    port, metrics = free_ports(2)
    ports = {"RECOMMENDATIONS_PORT": str(port), "RECOMMENDATIONS_METRICS_PORT": str(metrics)}
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OTEL_TRACES_EXPORTER": "none"} | ports
    ended = subprocess.run(
        [sys.executable, "-c", LOST], env=environ, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    (line,) = (line for line in map(json.loads, ended.stdout.splitlines()) if line["level"] == "error")
    assert line["event"].startswith(f"nobody listens on port {port} any more")
    assert ended.returncode == 3


def is_greeted(client: socket.socket) -> bool:
    """Whether the server has anything to say to it."""
    try:
        client.sendall(PREFACE + frame(4, 0, 0, b""))
        return bool(client.recv(1))
    except ConnectionError:
        return False


def test_hundreds_of_silent_clients(tmp_path: Path) -> None:
    """Of /metrics and of recommendations: few threads, bounded connections, and scrapes and pages go on."""
    with pair(tmp_path) as (running, _), ExitStack() as stack:
        before = {name: status_of(serving(running, name), "Threads") for name in NAMES}
        for port in running.metrics.values():
            for _ in range(400):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.grpc), timeout=30))
            for _ in range(2 * MOST_CONNECTIONS)
        ]
        assert sum(map(is_greeted, clients)) <= MOST_CONNECTIONS
        assert "Recommendations are not available now" not in running.get("/")[1]
        for name in NAMES:
            assert running.scrape(name)
            threads = partial(status_of, serving(running, name), "Threads")
            most = before[name] + 40
            eventually(lambda threads=threads, most=most: threads() < most)  # type: ignore[misc]
        assert recommend(running.grpc) == 2  # as soon as those before are hung up on
