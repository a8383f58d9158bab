"""The ways in which recommendations can fail while a shop calls it."""

import os
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

from observability.testing import eventually
from services.faults.client import Local
from tests.e2e.processes import Service, free_ports, get, pair
from tests.hosts import LOOPBACK, Host, Names

SETTINGS = b"\0\0\0\x04\0\0\0\0\0"  # an empty frame of HTTP/2 (RFC 9113, section 6.5)


class World:
    """A shop that finds recommendations by name; host is where a second instance can run."""

    def __init__(self, stack: ExitStack, directory: Path, host: Host, variables: dict[str, str]) -> None:
        self.host = host
        self.names = stack.enter_context(closing(Names("127.0.0.1")))
        (self.faults_port,) = free_ports(1)
        own = {
            "OTEL_TRACES_EXPORTER": "none",
            "RECOMMENDATIONS_HOST": self.names.name,
            "RECOMMENDATIONS_FAULTS_PORT": str(self.faults_port),
        }
        self.pair, _ = stack.enter_context(pair(directory, **own | variables))
        self._stack, self._directory = stack, directory / "second"

    def restart(self) -> None:
        """Run recommendations again, until it listens."""
        self.pair.recommendations = self.pair.start("recommendations")
        eventually(lambda: _listens(self.pair.grpc), 30)

    def start_second(self) -> Service:
        """Run a second instance, and let the name lead to it, too."""
        self._directory.mkdir(exist_ok=True)
        there = self.pair.variables | {"BIND_HOST": self.host.address, "RECOMMENDATIONS_FAULTS_PORT": ""}
        second = Service("recommendations", self._directory, self.host.enter, **there)
        self._stack.callback(second.stop)
        self.names.addresses = ("127.0.0.1", self.host.address)
        eventually(lambda: self.second_has_calls() and self.recommends(20), 30)
        return second

    def second_has_calls(self) -> bool:
        """Whether the second instance has answered calls of the shop, which this asks for a page."""
        self.pair.get("/")
        port = self.pair.metrics["recommendations"]
        text = get(f"http://{self.host.address}:{port}/metrics", "text/plain")[1]
        count = re.search(
            r'grpc_server_handled_total{.*grpc_code="OK".*grpc_method="Recommend".*} (\S+)', text
        )
        return count is not None and float(count[1]) > 0

    def recommends(self, pages: int) -> bool:
        """Whether so many pages in a row have recommendations that are new."""
        return not any("not available now" in self.pair.get("/")[1] for _ in range(pages))


@contextmanager
def world(directory: Path, host: Host = LOOPBACK, **variables: str) -> Iterator[World]:
    """One that is well, with one instance of recommendations."""
    with ExitStack() as stack:
        yield World(stack, directory, host, variables)


class Peer:
    """Something that listens on recommendations' port and is not recommendations."""

    def __init__(self, port: int, meet: Callable[[socket.socket], None]) -> None:
        self._meet = meet
        self._met: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=100)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in (*self._met, self._listener):
            connection.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._met.append(connection)
            self._meet(connection)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def killed(well: World) -> Iterator[None]:
    """Its only instance is killed, and starts again."""
    well.pair.recommendations.stop(signal.SIGKILL)
    try:
        yield
    finally:
        well.restart()


@contextmanager
def frozen(well: World) -> Iterator[None]:
    """Its process stands still: connections stay, and nothing is answered."""
    well.pair.recommendations.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        well.pair.recommendations.process.send_signal(signal.SIGCONT)


@contextmanager
def flapping(well: World) -> Iterator[None]:
    """It stands still every other second."""
    end = threading.Event()

    def flap() -> None:
        while not end.is_set():
            with frozen(well):
                end.wait(1)
            end.wait(1)

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@contextmanager
def slow(well: World, ms: int) -> Iterator[None]:
    """It answers only after so many milliseconds."""
    switch = Local("recommendations", well.faults_port)
    switch.ask("on", "slow", "1", str(ms))
    yield
    switch.ask("heal")


@contextmanager
def replaced(well: World, meet: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something else listens on its port."""
    well.pair.recommendations.stop(signal.SIGKILL)
    try:
        with closing(Peer(well.pair.grpc, meet)):
            yield
    finally:
        well.restart()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


Ill = Callable[[World], AbstractContextManager[None]]
ILLS: dict[str, Ill] = {
    "killed (`kill -9`)": killed,
    "frozen (SIGSTOP)": frozen,
    "slow: 400 ms": lambda well: slow(well, 400),
    "slow: 5 s": lambda well: slow(well, 5000),
    "refusing connections": lambda well: replaced(well, _reset),
    "garbage instead of HTTP/2": lambda well: replaced(well, lambda peer: peer.sendall(os.urandom(1000))),
    "silent after its SETTINGS": lambda well: replaced(well, lambda peer: peer.sendall(SETTINGS)),
    "frozen every other second": flapping,
}
