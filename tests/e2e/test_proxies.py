"""What a proxy reports of a client, in the real service: believed from proxies that are named, from nobody else."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from observability.testing import eventually
from tests.e2e.processes import Receiver
from tests.e2e.test_front import Shop, everything

PROXY, ANYBODY = "127.0.0.2", "127.0.0.3"
REPORT = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "books.example",
}
HSTS = "Strict-Transport-Security"


class Proxied:
    """The shop behind 127.0.0.2 and 10.0.0.0/8, and the spans of its pages."""

    def __init__(self, shop: Shop, receiver: Receiver) -> None:
        self.shop, self._receiver = shop, receiver

    def ask(self, source: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer to who connects from the address."""
        here = http.client.HTTPConnection("127.0.0.1", self.shop.port, 30, source_address=(source, 0))
        with closing(here):
            here.request("GET", "/", headers={"Host": "books.example"} | headers)
            answer = here.getresponse()
            answer.read()
            return answer.status, dict(answer.headers)

    def span(self, trace_id: str) -> dict[str, Any]:
        """The attributes of the page's span."""

        def found() -> list[Any]:
            spans = [span for _, span in self._receiver.spans]
            return [span for span in spans if span.kind == 2 and span.trace_id.hex() == trace_id]

        (span,) = eventually(found, 30)
        values = {each.key: each.value for each in span.attributes}
        return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}

    def seen(self, source: str, headers: dict[str, str]) -> tuple[dict[str, Any], str | None]:
        """The attributes of the page's span, and its HSTS header."""
        status, answered = self.ask(source, headers)
        assert status == 200
        return self.span(answered["traceresponse"].split("-")[1]), answered.get(HSTS)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with closing(Receiver()) as receiver:
        shop = Shop(
            tmp_path_factory.mktemp("shop"),
            TRUSTED_PROXIES=f"{PROXY}, 10.0.0.0/8",
            ALLOWED_HOSTS="books.example,127.0.0.1",
            MARKETPLACE_CLIENT_CONNECTIONS="5",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        with closing(shop):
            yield Proxied(shop, receiver)


def test_a_proxy_is_believed(proxied: Proxied) -> None:
    """The span has the client's address and what it asked for; https is answered with HSTS."""
    span, hsts = proxied.seen(PROXY, {"Host": "shop.internal:5000"} | REPORT)
    assert span["client.address"] == "203.0.113.9"
    assert "client.port" not in span
    assert (span["url.scheme"], span["server.address"], span["server.port"]) == (
        "https",
        "books.example",
        443,
    )
    assert hsts == "max-age=31536000"
    assert proxied.seen(PROXY, REPORT | {"X-Forwarded-Proto": "http"})[1] is None


def test_nobody_else_is(proxied: Proxied) -> None:
    """The same headers from another address change nothing, and plain http is answered without HSTS."""
    span, hsts = proxied.seen(ANYBODY, REPORT)
    assert (span["client.address"], span["url.scheme"], hsts) == (ANYBODY, "http", None)
    assert proxied.ask(ANYBODY, {"Host": "evil.example"} | REPORT)[0] == 400


def test_what_a_client_makes_up(proxied: Proxied) -> None:
    """Through two proxies, what the client wrote is to the left of its address; a wrong host is still a 400."""
    made_up = {"X-Forwarded-For": "198.51.100.1, 10.9.9.9, 203.0.113.9, 10.0.0.7"}
    assert proxied.seen(PROXY, made_up)[0]["client.address"] == "203.0.113.9"
    odd = {"X_Forwarded_For": "198.51.100.1", "X-Forwarded-Proto": "gopher", "Forwarded": "for=198.51.100.1"}
    span, hsts = proxied.seen(PROXY, odd)
    assert (span["client.address"], span["url.scheme"], hsts) == (PROXY, "http", None)
    for host in ("evil.example", "a:b:c", "x" * 300):
        assert proxied.ask(PROXY, REPORT | {"X-Forwarded-Host": host})[0] == 400


def test_a_proxy_has_many_clients(proxied: Proxied) -> None:
    """The limit of one client's connections is not for a proxy; it stays for everybody else."""
    here = "127.0.0.1", proxied.shop.port
    with ExitStack() as stack:

        def connect(source: str) -> socket.socket:
            return stack.enter_context(socket.create_connection(here, 30, (source, 0)))

        through_proxy = [connect(PROXY) for _ in range(20)]
        through_proxy[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        assert everything(through_proxy[-1]).startswith(b"HTTP/1.1 200")
        alone = [connect("127.0.0.4") for _ in range(6)]
        assert everything(alone[-1]) == b""
    assert proxied.shop.refused()["client_connections"] == 1
