"""/metrics over TLS, for clients with a certificate or a token: who is let in, and who takes nothing away."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from observability import metrics_server
from observability.metrics_server import MOST_CLIENTS
from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.test_metrics_server import ASKED, threads
from tools.certs import Authority

TOKEN = "abcdefgh.ijklmnop=="
Serve = Callable[..., int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `make certs`."""
    made = tmp_path_factory.mktemp("certs")
    Authority().write(made)
    return made


def server_context(folder: Path, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "recommendations.pem", folder / "recommendations.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    return context


def client_context(folder: Path, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if mutual:
        context.load_cert_chain(folder / "marketplace.pem", folder / "marketplace.key")
    return context


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves /metrics with the options, and returns the port."""
    telemetry = MemoryTelemetry("shop")
    yield lambda **options: telemetry.serve_metrics(0, **options)
    telemetry.shutdown()


def scrape(port: int, context: ssl.SSLContext | None = None, **headers: str) -> tuple[int, str, str]:
    """The status, the body and what the client must authenticate itself with."""
    here = "localhost", port
    connection = HTTPSConnection(*here, timeout=30, context=context) if context else HTTPConnection(*here)
    try:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers.get("WWW-Authenticate", "")
    finally:
        connection.close()


def test_over_tls(serve: Serve, folder: Path) -> None:
    """A client that trusts the certificate is served, to a clean end; one that speaks plain HTTP is not."""
    port = serve(ssl_context=server_context(folder))
    assert "target_info" in scrape(port, client_context(folder))[1]
    with pytest.raises(OSError, match=r"(?i)reset|without response|disconnect"):
        scrape(port)
    plain = socket.create_connection(("localhost", port), timeout=30)
    context = client_context(folder)
    with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client:
        client.sendall(ASKED)
        while client.recv(65536):
            pass


def test_for_clients_with_a_certificate(serve: Serve, folder: Path) -> None:
    """One without, or with another CA's, is not served."""
    port = serve(ssl_context=server_context(folder, mutual=True))
    assert scrape(port, client_context(folder, mutual=True))[0] == 200
    stranger = client_context(folder)
    with pytest.raises(OSError, match=r"(?i)alert|reset|eof|pipe"):
        scrape(port, stranger)


def silent(plain: socket.socket, _: Path) -> socket.socket:
    return plain


def half_a_hello(plain: socket.socket, _: Path) -> socket.socket:
    plain.sendall(bytes.fromhex("160301020001"))
    return plain


def silent_after_the_handshake(plain: socket.socket, folder: Path) -> socket.socket:
    context = client_context(folder)
    return context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("begin", [silent, half_a_hello, silent_after_the_handshake])
def test_silent_clients_take_no_scrape_away(
    serve: Serve, folder: Path, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far they come, one that scrapes is answered at once, and there are few threads."""
    monkeypatch.setattr(metrics_server._Handler, "timeout", 60)
    port = serve(ssl_context=server_context(folder))
    with ExitStack() as stack:
        for _ in range(5 * MOST_CLIENTS):
            plain = socket.create_connection(("localhost", port), timeout=30)
            stack.enter_context(begin(stack.enter_context(plain), folder))
        assert scrape(port, client_context(folder))[0] == 200
        eventually(lambda: threads() <= MOST_CLIENTS)
    eventually(lambda: threads() == 0)


def test_for_clients_with_a_token(serve: Serve) -> None:
    """One with the token is served; others get a 401 that says what there must be, and nothing else."""
    port = serve(tokens=["another-token", TOKEN])
    for header in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", "BEARER another-token"):
        assert scrape(port, Authorization=header)[0] == 200
    realm = 'Bearer realm="metrics"'
    assert scrape(port) == (401, "401 Unauthorized\n", realm)
    assert scrape(port, Authorization="Basic dTpw") == (401, "401 Unauthorized\n", realm)
    for wrong in ("", TOKEN[:-1], TOKEN + "=", "\xff", f"{TOKEN},{TOKEN}"):
        expected = 401, "401 Unauthorized\n", f'{realm}, error="invalid_token"'
        assert scrape(port, Authorization=f"Bearer {wrong}") == expected


def test_both_and_as_functions(serve: Serve, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Functions are asked for each client; while one fails, nobody is let in."""
    contexts, tokens = [server_context(folder)], [TOKEN]
    port = serve(ssl_context=lambda: contexts[0], tokens=lambda: [*tokens])
    good = f"Bearer {TOKEN}"
    assert scrape(port, client_context(folder))[0] == 401
    assert scrape(port, client_context(folder), Authorization=good)[0] == 200
    tokens.clear()
    assert scrape(port, client_context(folder), Authorization=good)[0] == 401
    tokens.append(TOKEN)
    context = contexts.pop()
    with pytest.raises(OSError, match=r"(?i)eof|reset"):
        scrape(port, client_context(folder), Authorization=good)
    contexts.append(context)
    assert scrape(port, client_context(folder), Authorization=good)[0] == 200
    assert TOKEN not in capfd.readouterr().err


@pytest.mark.parametrize("is_tls", [True, False])
def test_a_client_that_goes(
    serve: Serve, folder: Path, is_tls: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed of one that goes before its answer, and the next is answered."""
    is_in, go_on = threading.Event(), threading.Event()

    def tokens() -> list[str]:
        is_in.set()
        go_on.wait(30)
        return [TOKEN]

    port = serve(ssl_context=server_context(folder) if is_tls else None, tokens=tokens)
    client = socket.create_connection(("localhost", port), timeout=30)
    if is_tls:
        client = silent_after_the_handshake(client, folder)
    client.sendall(ASKED[:-2] + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode())
    assert is_in.wait(30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    client.close()
    go_on.set()
    context = client_context(folder) if is_tls else None
    assert scrape(port, context, Authorization=f"Bearer {TOKEN}")[0] == 200
    eventually(lambda: threads() == 0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "wrong", [{"ssl_context": "cert.pem"}, {"tokens": TOKEN}, {"tokens": []}, {"tokens": [f"{TOKEN} "]}]
)
def test_wrong_options(serve: Serve, wrong: dict[str, Any]) -> None:
    """They are an error that names the option, and shows no token."""
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got ") as error:
        serve(**wrong)
    assert TOKEN not in str(error.value)
