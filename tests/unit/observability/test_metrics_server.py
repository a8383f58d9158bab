"""The listener of /metrics holds out against clients that say nothing, too little, or nonsense."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client import CollectorRegistry, Counter

from observability import metrics_server
from observability.metrics_server import MOST_CLIENTS, MetricsServer
from observability.testing import eventually

ASKED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    Counter("scraped", "What is asked for.", registry=registry)
    running = MetricsServer(0, "127.0.0.1", registry)
    yield running
    running.close()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=30)


def ask(server: MetricsServer, request: bytes = ASKED) -> bytes:
    with connect(server) as client:
        client.sendall(request)
        return everything(client)


def everything(client: socket.socket) -> bytes:
    answer = b""
    while data := client.recv(65536):
        answer += data
    return answer


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("begun", [b"", b"GET /metrics HTTP/1.1\r\nX-Slow: "])
def test_silent_clients_take_no_scrape_away(server: MetricsServer, begun: bytes) -> None:
    """With hundreds of clients that never finish asking, there are few threads, and a scrape is answered."""
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(server)).sendall(begun)
        assert b"scraped_total 0.0" in ask(server)
        eventually(lambda: threads() <= MOST_CLIENTS)
    eventually(lambda: threads() == 0)


def test_who_is_answered_keeps_the_place(server: MetricsServer) -> None:
    """A client whose metrics are being collected is not sent away by those that come later."""
    is_in, go_on = threading.Event(), threading.Event()

    class Slow:
        def collect(self) -> list[object]:
            is_in.set()
            go_on.wait(30)
            return []

    registry = CollectorRegistry()
    slow = MetricsServer(0, "127.0.0.1", registry)
    registry.register(Slow())  # type: ignore[arg-type]
    is_in.clear()
    with ExitStack() as stack:
        stack.callback(slow.close)
        first = stack.enter_context(connect(slow))
        first.sendall(ASKED)
        assert is_in.wait(30)
        for _ in range(MOST_CLIENTS + 5):
            stack.enter_context(connect(slow))
        with connect(slow) as last:
            last.sendall(b"OPTIONS / HTTP/1.1\r\n\r\n")
            assert b"200 OK" in everything(last)
        go_on.set()
        assert b"200 OK" in everything(first)


def test_a_silent_client_is_hung_up_on(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends nothing for a while is let go."""
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.1)
    with connect(server) as client:
        assert everything(client) == b""


@pytest.mark.parametrize(
    "request_",
    [b"\xff\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x" * 70_000, b"POST / HTTP/1.1\r\n\r\n"],
)
def test_nonsense_is_answered(
    server: MetricsServer, request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is refused, printed nowhere, and the next scrape is answered."""
    with suppress(ConnectionResetError):  # what it sent was not read to its end
        assert b" 200 " not in ask(server, request_)
    assert b" 200 " in ask(server)
    assert capfd.readouterr().err == ""
