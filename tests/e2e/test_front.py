"""The shop's front door, in the real service: slow, many, silent and odd clients take nothing from the others."""

import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

from observability.testing import eventually
from services.marketplace.front.metrics import REASONS
from tests.e2e.processes import Service, free_ports, get

pytestmark = pytest.mark.full

GET = b"GET /livez HTTP/1.1\r\nHost: shop\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop\r\n"


class Shop:
    """The shop as a process; nobody recommends."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self.port, self.metrics, self.faults = free_ports(3)
        self.service = Service(
            "marketplace",
            directory,
            MARKETPLACE_PORT=str(self.port),
            MARKETPLACE_METRICS_PORT=str(self.metrics),
            MARKETPLACE_FAULTS_PORT=str(self.faults),
            RECOMMENDATIONS_PORT="1",
            DRAIN_S="0",
            **variables,
        )
        self.workers = eventually(self.running, 30)  # those that it began with: one
        eventually(lambda: self.get("/readyz")[0] == 200, 60)

    def get(self, path: str) -> tuple[int, str, dict[str, str]]:
        return get(f"http://127.0.0.1:{self.port}{path}")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, data: bytes) -> bytes:
        """What the shop answers, until it hangs up."""
        with self.connect() as client:
            client.sendall(data)
            return everything(client)

    def scrape(self) -> str:
        return get(f"http://127.0.0.1:{self.metrics}/metrics")[1]

    def refused(self) -> dict[str, float]:
        """How many requests have been turned away, by reason."""
        pattern = r'^marketplace_requests_refused_total{reason="(\w+)"} (\S+)$'
        found = re.findall(pattern, self.scrape(), re.MULTILINE)
        assert {reason for reason, _ in found} == set(REASONS)
        return {reason: float(count) for reason, count in found if float(count)}

    def hold(self) -> None:
        """Let each thread be stuck in a page, from the next on."""
        control = HTTPConnection("127.0.0.1", self.faults)
        control.request("PUT", "/stuck?share=1")
        assert control.getresponse().status == 200
        control.close()

    def running(self) -> list[int]:
        """The ids of the processes that serve pages."""
        number = self.service.process.pid
        return [int(worker) for worker in Path(f"/proc/{number}/task/{number}/children").read_text().split()]

    def close(self) -> None:
        if self.service.process.poll() is None:
            assert self.service.stop() == 0


def everything(client: socket.socket) -> bytes:
    answer = b""
    while data := client.recv(65536):
        answer += data
    return answer


@pytest.fixture
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    running = Shop(tmp_path, **getattr(request, "param", {}))
    yield running
    running.close()


@pytest.mark.parametrize("shop", [{"MARKETPLACE_REQUEST_S": "2"}], indirect=True)
@pytest.mark.parametrize("begun", [GET + b"X-Slow: ", POST + b"Content-Length: 1000\r\n\r\n", b""])
def test_slow_clients_hold_no_thread(shop: Shop, begun: bytes) -> None:
    """More clients than threads that send a byte now and then: pages are served, and they are hung up on."""
    with ExitStack() as stack:
        clients = [stack.enter_context(shop.connect()) for _ in range(40)]
        for client in clients:
            client.sendall(begun)
        assert shop.get("/books")[0] == 200
        assert shop.get("/livez")[0] == 200
        for client in clients if begun else ():
            client.sendall(b"a")
        answers = [everything(client) for client in clients]
    assert {answer[:12] for answer in answers} == ({b"HTTP/1.1 408"} if begun else {b""})
    assert shop.refused() == ({"timeout": 40} if begun else {})


@pytest.mark.parametrize("shop", [{"MARKETPLACE_THREADS": "2", "MARKETPLACE_QUEUE": "3"}], indirect=True)
def test_what_does_not_fit_is_refused(shop: Shop) -> None:
    """All threads stuck, as many wait as may: the next is a 503 at once, with Retry-After; probes are answered."""
    shop.hold()
    with ExitStack() as stack:
        for _ in range(2 + 3):
            stack.enter_context(shop.connect()).sendall(b"GET /books HTTP/1.1\r\nHost: shop\r\n\r\n")
        eventually(lambda: "\nmarketplace_requests_waiting 3.0\n" in shop.scrape())
        status, _, headers = shop.get("/books")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert shop.get("/livez")[0] == 200
        assert shop.get("/readyz")[0] == 200
        assert shop.refused() == {"queue_full": 1}


@pytest.mark.parametrize("shop", [{"MARKETPLACE_THREADS": "1", "MARKETPLACE_WAIT_MS": "100"}], indirect=True)
def test_who_has_waited_too_long_is_refused(shop: Shop) -> None:
    """A request that got no thread in time is a 503 and is not begun: nobody waits for it any longer."""
    shop.hold()
    with shop.connect() as first, shop.connect() as second:
        first.sendall(b"GET /books HTTP/1.1\r\nHost: shop\r\n\r\n")
        second.sendall(b"GET /books HTTP/1.1\r\nHost: shop\r\n\r\n")
        time.sleep(0.3)  # longer than it may wait
        control = HTTPConnection("127.0.0.1", shop.faults)
        control.request("DELETE", "/")
        control.getresponse()
        assert second.recv(12) == b"HTTP/1.1 503"
        assert first.recv(12) == b"HTTP/1.1 200"
    assert shop.refused() == {"waited": 1}


@pytest.mark.parametrize("shop", [{"MARKETPLACE_CLIENT_CONNECTIONS": "20"}], indirect=True)
def test_one_client_does_not_take_all_connections(shop: Shop) -> None:
    """A client's connections are limited: what it opens beyond is closed, and another client is served."""
    with ExitStack() as stack:
        clients = [stack.enter_context(shop.connect()) for _ in range(30)]
        assert [everything(client) for client in clients[20:]] == [b""] * 10
        other = socket.create_connection(("127.0.0.1", shop.port), source_address=("127.0.0.2", 0))
        stack.enter_context(other).sendall(GET + b"Connection: close\r\n\r\n")
        assert everything(other).startswith(b"HTTP/1.1 200")
    # A connection of before, which lingers, may be one of the twenty.
    eventually(lambda: shop.refused().get("client_connections", 0) in {10, 11})
    assert shop.refused().keys() == {"client_connections"}


def test_requests_come_as_they_like(shop: Shop) -> None:
    """In pieces, several at once, with a body or the wish to be asked for it: each is answered, in its order."""
    close = b"Connection: close\r\n\r\n"
    asked = [b"/livez", b"/books", b"/nowhere", b"/livez"]
    several = b"".join(b"GET %s HTTP/1.1\r\nHost: shop\r\n\r\n" % path for path in asked[:3]) + GET + close
    statuses = re.findall(rb"HTTP/1.1 (\d+)", shop.send(several))
    assert statuses == [b"200", b"200", b"404", b"200"]
    with shop.connect() as client:
        for piece in (several[i : i + 7] for i in range(0, len(several), 7)):
            client.sendall(piece)
        assert re.findall(rb"HTTP/1.1 (\d+)", everything(client)) == statuses
    body = POST + b"Content-Length: 5\r\n\r\nhello" + GET + close
    assert re.findall(rb"HTTP/1.1 (\d+)", shop.send(body)) == [b"405", b"200"]
    with shop.connect() as client:
        client.sendall(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n" + close)
        assert client.recv(12) == b"HTTP/1.1 100"
        client.sendall(b"hello")
        assert b"HTTP/1.1 405" in everything(client)
    assert shop.refused() == {}


UNSERVED = [
    (GET + b"X: " + b"x" * 40_000, 431, "too_large"),
    (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 413, "too_large"),
    (POST + b"Content-Length: 70000\r\n\r\n", 413, "too_large"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 411, "length_required"),
    (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "malformed"),
    (POST + b"Content-Length: -5\r\n\r\n", 400, "malformed"),
    (b"\0\xff\r\n\r\n", 400, "malformed"),
    (b"GET / HTTP/9.9\r\n\r\n", 400, "malformed"),
]


def test_a_request_that_cannot_be_served(shop: Shop) -> None:
    """It is refused with its status, the connection is closed, it is counted, and the next is served."""
    for request, status, _ in UNSERVED:
        assert shop.send(request).startswith(b"HTTP/1.1 %d " % status)
        assert shop.get("/livez")[0] == 200
    assert shop.refused() == Counter(reason for _, _, reason in UNSERVED)


def test_a_host_that_is_no_name(shop: Shop) -> None:
    """It is answered with 400, and counted as such."""
    hosts = [b"a" * 300, b"a..b", b".", b"[::1", b"a b", b"\xff", b"x:y", b"a,b", b"x/y", b""]
    for host in hosts:
        answer = shop.send(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host)
        assert answer.startswith(b"HTTP/1.1 400"), host
    pattern = r'^http_server_request_duration_seconds_count{.*status_code="400".*} (\S+)$'
    assert re.findall(pattern, shop.scrape(), re.MULTILINE) == [f"{len(hosts)}.0"]


@pytest.mark.parametrize("shop", [{"ALLOWED_HOSTS": "books.example, 127.0.0.1"}], indirect=True)
def test_only_the_shops_own_names(shop: Shop) -> None:
    """Another name than those allowed is a 400 everywhere but at the probes."""

    def ask(path: bytes, host: bytes) -> bytes:
        return shop.send(b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, host))[9:12]

    assert {ask(b"/books", host) for host in (b"Books.Example", b"books.example:80", b"127.0.0.1")} == {
        b"200"
    }
    assert {ask(b"/books", host) for host in (b"evil.example", b"books.example.evil", b"x")} == {b"400"}
    assert ask(b"/livez", b"10.1.2.3:5000") == b"200"


def test_headers_that_only_a_proxy_may_send(shop: Shop) -> None:
    """They change no path, scheme or address."""
    headers = (
        b"SCRIPT_NAME: /x\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    )
    answer = shop.send(b"GET /books HTTP/1.1\r\nHost: evil.example\r\n" + headers)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"evil" not in answer
    assert b"/x/" not in answer
    assert b"Location" not in shop.send(b"GET /books//1 HTTP/1.1\r\nHost: evil.example\r\n" + headers)


def test_signals_that_mean_nothing_here(shop: Shop) -> None:
    """Sent to either process they do nothing: the same processes go on."""
    for name in ("HUP", "TTIN", "TTOU", "USR1", "USR2", "WINCH"):
        for process in (shop.service.process.pid, *shop.workers):
            os.kill(process, signal.Signals[f"SIG{name}"])
        for _ in range(3):
            assert shop.get("/books")[0] == 200
            time.sleep(0.3)  # gunicorn starts and ends workers once a second
        assert shop.running() == shop.workers
    assert shop.service.errors.read_text() == ""


@pytest.mark.parametrize("shop", [{"MARKETPLACE_FROZEN_S": "2"}], indirect=True)
def test_a_frozen_worker_is_replaced(shop: Shop) -> None:
    """A worker that does nothing any more is ended, and another one serves."""
    (frozen,) = shop.workers
    os.kill(frozen, signal.SIGSTOP)
    eventually(lambda: not Path(f"/proc/{frozen}").exists(), 20)
    eventually(lambda: shop.get("/readyz")[0] == 200, 20)
    assert frozen not in shop.running()
