"""Requests that are wrong in all kinds of ways, as bytes: no 5xx, no hang, no new label, and a log of whole lines."""

import json
import random
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.wire import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, header
from observability.testing import eventually
from tests.e2e.processes import Pair, pair
from tests.e2e.test_holding_out import recommend

pytestmark = pytest.mark.full

SEED = 20261125
HTTP_REQUESTS = 3000
GRPC_CONNECTIONS = 1000
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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("bad"), OTEL_TRACES_EXPORTER="none") as (both, _):
        yield both


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


def labels(metrics: str) -> set[str]:
    """The labels of all series that count requests or calls, but for the statuses."""
    found = re.findall(r"^(?:http|grpc)_server_\w+{(.*)}", metrics, re.MULTILINE)
    return {re.sub(r'\w*(?:code|le)="[^"]*",?', "", each).rstrip(",") for each in found}


def whole_lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().rpartition("\n")[0].split("\n")]


def test_http(running: Pair) -> None:
    """Thousands of mutated requests: what is answered is below 500, and the shop goes on as before."""
    chance = random.Random(SEED)
    port = int(running.url.rpartition(":")[2])
    for path in PATHS:
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"WEIRD"):
            said(port, b"%s %s HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n" % (method, path))
            said(port, b"%s /nowhere HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n" % method)
    before = labels(running.scrape("marketplace"))
    for _ in range(HTTP_REQUESTS):
        request = http_request(chance)
        answer = said(port, request)
        assert not answer.startswith(b"HTTP/1.1 5"), (request, answer[:500])
    assert running.get("/books")[0] == 200
    assert labels(running.scrape("marketplace")) <= before
    assert not [line for line in whole_lines(running.marketplace.log) if line["level"] == "error"]
    assert running.marketplace.errors.read_text() == ""


def grpc_frames(chance: random.Random) -> bytes:
    fields = {b":method": b"POST", b":scheme": b"http", b":path": b"/Recommendations/Recommend", b":authority": b"x",
              b"te": b"trailers", b"content-type": b"application/grpc", b"grpc-timeout": b"1S"}  # fmt: skip
    fields[chance.choice([*fields])] = mutated(chance, chance.choice([*fields.values()]))[:255]
    head = b"".join(header(*field) for field in fields.items())
    message = mutated(chance, b"\0\0\0\0\x04\x08\x01\x18\x03")
    frames = frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, message)
    return PREFACE + frame(SETTINGS, 0, 0, b"") + mutated(chance, frames)


def test_grpc(running: Pair) -> None:
    """A thousand connections with mutated frames, metadata and messages: recommendations goes on as before."""
    chance = random.Random(SEED)
    before = labels(running.scrape("recommendations"))
    for _ in range(GRPC_CONNECTIONS):
        said(running.grpc, grpc_frames(chance))
    assert recommend(running.grpc) == 2
    new = labels(running.scrape("recommendations")) - before
    assert all('method="_OTHER"' in each for each in new)
    eventually(lambda: whole_lines(running.recommendations.log))
    assert running.recommendations.process.poll() is None
