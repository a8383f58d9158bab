"""Requests that are wrong in all kinds of ways, as bytes: no 5xx, no hang, no new name, and memory that stays.

BAD_INPUT=100000 in the environment sets how many of each kind there are; -s shows what was answered.
"""

import json
import os
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RESET,
    SETTINGS,
    START,
    frame,
    header,
)  # fmt: skip
from observability import receiver
from observability.testing import eventually
from tests.e2e.processes import Pair
from tests.e2e.test_holding_out import recommend, serving, status_of

pytestmark = pytest.mark.full

SEED = 20261125
COUNT = {
    "marketplace": int(os.environ.get("BAD_INPUT", "3000")),
    "recommendations": int(os.environ.get("BAD_INPUT", "1000")),
}
BATCHES = 100
AT_ONCE = 16
PATIENCE_S = 0.2  # with a gRPC call that may not be whole
GROWTH_MIB = 16
PATHS = [
    b"/",
    b"/books",
    b"/books/1",
    b"/books?q=the&after=3",
    b"/?category=mystery",
    b"/static/shop.css",
    b"/livez",
]
FIELDS = [
    b"Host: shop", b"Connection: close", b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked",
    b"Expect: 100-continue", b"Range: bytes=0-9", b"If-None-Match: \"x\"", b"Accept: */*", b"Cookie: a=b",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"Content-Type: multipart/form-data",
    b"SCRIPT_NAME: /x", b"X-Forwarded-Proto: https", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
]  # fmt: skip
ODD = [b"\0", b"\r", b"\n", b"\r\n\r\n", b"\xff", b"%00", b"%ff", b"%", b"..", b"//", b":", b" ", b"\t", b"{", b"9" * 30, b"a" * 5000]  # fmt: skip


METADATA = {
    b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"tracestate": b"a=b", b"baggage": b"a=b",
    b"user-agent": b"grpc-python/1.85.1", b"grpc-encoding": b"gzip", b"grpc-accept-encoding": b"identity,gzip",
    b"grpc-previous-rpc-attempts": b"1", b"authorization": b"Bearer x", b"some-bin": b"AAEC", b"content-length": b"9",
}  # fmt: skip


class Names(receiver.Receiver):
    """A real OTLP receiver that keeps the names of each service's spans."""

    def __init__(self) -> None:
        self.seen: dict[str, set[str]] = {"marketplace": set(), "recommendations": set()}
        self._traces: set[str] = set()
        super().__init__(self._keep)

    def _keep(self, resource: dict[str, Any], spans: Sequence[Any]) -> None:
        self.seen[resource["service.name"]] |= {span.name for span in spans}
        self._traces |= {span.trace_id.hex() for span in spans}

    def of_all_until_now(self, running: Pair) -> set[str]:
        """The names of the shop's spans, when that of a page asked for now has come: spans come in order."""
        trace_id = running.get("/")[2]["traceresponse"].split("-")[1]
        eventually(lambda: trace_id in self._traces, 30)
        return {*self.seen["marketplace"]}


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    with closing(Names()) as taking:
        yield taking


@pytest.fixture(scope="module")
def running(names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with closing(Pair(tmp_path_factory.mktemp("bad"), names)) as both:
        yield both


def memory_mib(running: Pair, name: str) -> float:
    return status_of(serving(running, name), "VmRSS") / 1024


def send_all(running: Pair, name: str, requests: Iterable[bytes], send: Callable[[bytes], None]) -> None:
    """Send all, some at once; what the service takes of memory after the first tenth must be enough for all."""
    before = 0.0
    with ThreadPoolExecutor(AT_ONCE) as clients:
        for number, batch in enumerate(zip(*[iter(requests)] * (COUNT[name] // BATCHES), strict=True)):
            if number == BATCHES // 10:
                before = memory_mib(running, name)
            list(clients.map(send, batch))
    after = memory_mib(running, name)
    print(f"{name}: {COUNT[name]}, {before:.0f} MiB after a tenth of them, {after:.0f} MiB after all")
    assert after - before < GROWTH_MIB, "memory grew"


def mutated(chance: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them changed, left out, doubled or put in."""
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data = data[:place] + bytes((chance.randrange(256),)) + data[place + 1 :]
            case 1:
                data = data[:place] + chance.choice(ODD) + data[place:]
            case 2:
                data = data[:place] + data[place + chance.randrange(20) :]
            case 3:
                data = data[:place] + data[place - 10 if place > 10 else 0 : place] + data[place:]
    return data


def http_request(chance: random.Random) -> bytes:
    method = chance.choice((b"GET", b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT"))
    fields = [*chance.sample(FIELDS, chance.randrange(5)), b"Host: shop"]
    head = b"%s %s HTTP/1.%d\r\n%s\r\n\r\n" % (
        method,
        chance.choice(PATHS),
        chance.choice((0, 1, 1)),
        b"\r\n".join(fields),
    )
    return mutated(chance, head + chance.choice((b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n")))


def said(port: int, data: bytes) -> bytes:
    """What is answered to bytes after which nothing comes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            client.sendall(data)
            with suppress(OSError):  # it has been hung up on already
                client.shutdown(socket.SHUT_WR)
            while more := client.recv(65536):
                answer += more
        except ConnectionError:
            pass  # it has been hung up on
    return answer


def call(port: int, data: bytes) -> None:
    """Send frames and wait for the end of the call; who hangs up at once is not served."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client, suppress(ConnectionError):
        client.sendall(data)
        client.settimeout(PATIENCE_S)
        with suppress(TimeoutError):
            while not has_ended(answer) and (more := client.recv(65536)):
                answer += more
        client.settimeout(30)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


def has_ended(answer: bytes) -> bool:
    """Whether the answer to the one call on a connection is whole, or there will be none."""
    place = 0
    while len(answer) >= place + START.size:
        high, low, kind, flags, _ = START.unpack_from(answer, place)
        if kind in {RESET, GOAWAY} or (kind == HEADERS and flags & END_STREAM):
            return True
        place += START.size + (high << 8 | low)
    return False


def labels(metrics: str) -> set[str]:
    """The labels of all series that count requests or calls, but for the statuses."""
    found = re.findall(r"^(?:http|grpc)_server_\w+{(.*)}", metrics, re.MULTILINE)
    return {re.sub(r'\w*(?:code|le)="[^"]*",?', "", each).rstrip(",") for each in found}


def whole_lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().rpartition("\n")[0].split("\n")]


def counted(metrics: str, series: str, label: str) -> Counter[str]:
    """The sum of a counter for each value of a label."""
    sums: Counter[str] = Counter()
    for value, count in re.findall(rf'^{series}{{.*{label}="(\w+)".*}} (\S+)$', metrics, re.MULTILINE):
        sums[value] += int(float(count))
    return +sums


def test_http(running: Pair, names: Names) -> None:
    """Thousands of mutated requests: what is answered is below 500, and the shop goes on as before."""
    chance = random.Random(SEED)
    port = int(running.url.rpartition(":")[2])
    for path in PATHS:
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"WEIRD"):
            said(port, b"%s %s HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n" % (method, path))
            said(port, b"%s /nowhere HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n" % method)
    spans_before = names.of_all_until_now(running)
    before = labels(running.scrape("marketplace"))
    statuses: Counter[str] = Counter()

    def send(request: bytes) -> None:
        answer = said(port, request)
        assert not answer.startswith(b"HTTP/1.1 5"), (request, answer[:500])
        statuses[answer[9:12].decode() or "nothing"] += 1

    send_all(running, "marketplace", (http_request(chance) for _ in range(COUNT["marketplace"])), send)
    print("answered:", statuses)
    assert running.get("/books")[0] == 200
    assert labels(running.scrape("marketplace")) <= before
    assert names.of_all_until_now(running) <= spans_before
    assert not [line for line in whole_lines(running.marketplace.log) if line["level"] == "error"]
    assert running.marketplace.errors.read_text() == ""


def grpc_frames(chance: random.Random) -> bytes:
    """A call of which one part is mutated: a field, the metadata, the message, or the frames."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": b"/Recommendations/Recommend", b":authority": b"x",
              b"te": b"trailers", b"content-type": b"application/grpc", b"grpc-timeout": b"1S"}  # fmt: skip
    message = b"\0\0\0\0\x04\x08\x01\x18\x03"
    part = chance.randrange(4)
    if part == 0:
        fields[chance.choice([*fields])] = mutated(chance, chance.choice([*fields.values()]))[:255]
    elif part == 1:
        for name in chance.sample([*METADATA], 3):
            fields[mutated(chance, name)[:255]] = mutated(chance, METADATA[name])[:255]
    elif part == 2:
        content = mutated(chance, message[5:])
        message = mutated(
            chance, bytes((chance.choice((0, 0, 0, 1)),)) + struct.pack(">I", len(content)) + content
        )
    head = b"".join(header(*field) for field in fields.items())
    frames = frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, message)
    return PREFACE + frame(SETTINGS, 0, 0, b"") + (mutated(chance, frames) if part == 3 else frames)


def test_grpc(running: Pair, names: Names) -> None:
    """As many connections with mutated frames, metadata and messages: recommendations goes on as before."""
    chance = random.Random(SEED)
    before = labels(running.scrape("recommendations"))
    calls = (grpc_frames(chance) for _ in range(COUNT["recommendations"]))
    send_all(running, "recommendations", calls, partial(call, running.grpc))
    assert recommend(running.grpc) == 2
    metrics = running.scrape("recommendations")
    print("handled:", counted(metrics, "grpc_server_handled_total", "grpc_code"))
    assert all('method="_OTHER"' in each for each in labels(metrics) - before)
    assert names.seen["recommendations"] <= {"Recommendations/Recommend", "_OTHER"}
    eventually(lambda: whole_lines(running.recommendations.log))
    assert running.recommendations.process.poll() is None
