"""A second host for a service, and names for the hosts: with network namespaces, and a real DNS server."""

import os
import random
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

A = 1  # the type of a record with an address (RFC 1035, section 3.2.2)
CAN_MAKE = os.geteuid() == 0 and shutil.which("ip") is not None


class Host(NamedTuple):
    """Where a service can run: its address, and what to put before a command that is to run there."""

    address: str
    enter: tuple[str, ...] = ()


LOOPBACK = Host("127.0.0.2")  # this host, by another address


class Namespace:
    """A separate host, on a wire to this one; making one needs root and iproute2."""

    def __init__(self) -> None:
        tag, net = random.randrange(10_000), random.randrange(256)
        self._name, self._wire, self._here = f"host-{tag}", f"wire-{tag}", f"10.215.{net}.1"
        self.host = Host(f"10.215.{net}.2", ("ip", "netns", "exec", self._name))
        ip("netns", "add", self._name)
        ip("link", "add", self._wire, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        ip("addr", "add", f"{self._here}/30", "dev", self._wire)
        ip("link", "set", self._wire, "up")
        ip("-n", self._name, "addr", "add", f"{self.host.address}/30", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self._name, "link", "set", device, "up")

    @contextmanager
    def dark(self) -> Iterator[None]:
        """The host answers nothing: no packet leaves it."""
        ip("-n", self._name, "route", "add", "blackhole", self._here)
        try:
            yield
        finally:
            ip("-n", self._name, "route", "del", "blackhole", self._here)

    def close(self) -> None:
        """Remove it; what runs there must have ended."""
        ip("link", "del", self._wire)
        ip("netns", "del", self._name)


def ip(*words: str) -> None:
    """Run iproute2's command."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Names:
    """A DNS server that answers each question with the same addresses; they may be changed."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.name = f"dns://127.0.0.1:{self._socket.getsockname()[1]}/recommendations.test"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        self._socket.settimeout(0.1)
        while not self._end.is_set():
            try:
                asked, client = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self._socket.sendto(self._answer(asked), client)

    def _answer(self, asked: bytes) -> bytes:
        """The message that answers the question (RFC 1035, section 4.1)."""
        end = asked.index(b"\0", 12) + 5  # of the question: a name, its type and its class
        (kind,) = struct.unpack(">H", asked[end - 4 : end - 2])
        addresses = self.addresses if kind == A else ()
        header = asked[:2] + struct.pack(">HHHHH", 0x8580, 1, len(addresses), 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 1, 4)  # the name that was asked for, for a second
        return header + asked[12:end] + b"".join(record + socket.inet_aton(each) for each in addresses)
