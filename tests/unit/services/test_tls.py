"""TLS: wrong files end the start with a line, strangers are refused, and new files are taken while it runs."""

import datetime
import socket
import ssl
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest

from observability.testing import MemoryTelemetry
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.marketplace.config import Settings as Marketplace
from services.marketplace.recommendations import Recommendations as Client
from services.recommendations.config import Settings as Recommendations
from services.settings import load
from tests.unit.services.recommending import Running
from tools.certs import VARIABLES, Authority

YESTERDAY = datetime.timedelta(days=-1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of `make certs`."""
    Authority().write(tmp_path)
    return tmp_path


@pytest.fixture
def authority(folder: Path) -> Authority:
    """A CA whose files are in the folder."""
    made = Authority()
    made.write(folder)
    return made


@pytest.fixture
def server(folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """recommendations, with mutual TLS."""
    for variable, file in VARIABLES.items():
        monkeypatch.setenv(variable, str(folder / file))
    running = Running(Recommendations(recommendations_port=0, drain_s=0, grace_s=1))
    yield running
    running.close()


def call(channel: grpc.Channel) -> int:
    """How many books a call gets."""
    stub = RecommendationsStub(channel)
    request = RecommendationRequest(category="MYSTERY", max_results=3)
    return len(stub.Recommend(request, timeout=5, wait_for_ready=False).recommendations)


def connected(
    server: Running, ca: bytes, key: bytes | None, certificate: bytes | None, name: str = "localhost"
) -> grpc.Channel:
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(
        f"localhost:{server.port}", grpc.ssl_channel_credentials(ca, key, certificate), options
    )


SIDES: dict[Any, tuple[str, str, str]] = {
    Recommendations: ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"),
    Marketplace: ("RECOMMENDATIONS_CERT_FILE", "RECOMMENDATIONS_KEY_FILE", "RECOMMENDATIONS_CA_FILE"),
}


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize(
    ("wrong", "content", "reason"),
    [
        (0, b"not a certificate\n", "must be a PEM file with a certificate, got "),
        (1, b"not a key\n", "must be the private key (PEM, without a passphrase) of "),
        (1, "another key", "must be the private key (PEM, without a passphrase) of "),
        (2, b"", "must be a PEM file with a certificate, got "),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(
    kind: Any, wrong: int, content: bytes | str, reason: str, folder: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """On either side, the start ends with one line that names the variable, the file and the reason."""
    for variable, file in VARIABLES.items():
        monkeypatch.setenv(variable, str(folder / file))
    load(kind)
    variable = SIDES[kind][wrong]
    broken = folder / VARIABLES[variable]
    broken.write_bytes(Authority().issue("localhost")[0] if isinstance(content, str) else content)
    with pytest.raises(SystemExit) as ended:
        load(kind)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(variable)
    assert reason in line
    assert str(broken) in line


def test_who_is_let_in(server: Running, authority: Authority) -> None:
    """A client with a certificate of the CA is served. Without one, with another's or an old one, it is not."""
    key, certificate = authority.issue("marketplace")
    with connected(server, authority.pem, key, certificate) as channel:
        assert call(channel) == 3
    strangers = {
        "none": (authority.pem, None, None, "localhost"),
        "another CA's": (authority.pem, *Authority().issue("marketplace"), "localhost"),
        "ended": (authority.pem, *authority.issue("marketplace", lasts=YESTERDAY), "localhost"),
        "a server of another CA": (Authority().pem, key, certificate, "localhost"),
        "a server of another name": (authority.pem, key, certificate, "elsewhere"),
    }
    for stranger in strangers.values():
        with connected(server, *stranger) as channel, pytest.raises(grpc.RpcError) as error:
            call(channel)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_old_versions_are_refused(server: Running, authority: Authority, folder: Path) -> None:
    """TLS 1.2 is the oldest that is spoken."""
    for version, is_spoken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(folder / "marketplace.pem", folder / "marketplace.key")
        with pytest.warns(DeprecationWarning, match="TLSv1_1") if not is_spoken else nullcontext():
            context.minimum_version = context.maximum_version = version
        with socket.create_connection(("localhost", server.port), timeout=10) as plain:
            if is_spoken:
                with context.wrap_socket(plain, server_hostname="localhost") as made:
                    assert made.version() == "TLSv1.2"
            else:
                with pytest.raises(OSError, match=r"(?i)version|alert|reset|eof"):
                    context.wrap_socket(plain, server_hostname="localhost").close()


def test_new_files_are_taken_while_it_runs(server: Running, authority: Authority, folder: Path) -> None:
    """Whoever connects after a change meets the new certificates; calls on old connections go on."""
    key, certificate = authority.issue("marketplace")
    newer = Authority()
    with connected(server, authority.pem, key, certificate) as old:
        assert call(old) == 3
        (folder / "recommendations.key").write_bytes(b"half writ")  # it keeps what it had
        with connected(server, authority.pem, key, certificate) as channel:
            assert call(channel) == 3
        newer.write(folder)
        with connected(server, newer.pem, *newer.issue("marketplace")) as channel:
            assert call(channel) == 3
        assert call(old) == 3
        with connected(server, authority.pem, key, certificate) as channel, pytest.raises(grpc.RpcError):
            call(channel)


def test_the_shop_takes_new_files_too(server: Running, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of all files, CA included, its calls go on: on a new channel, without a failed one."""
    monkeypatch.setenv("RECOMMENDATIONS_PORT", str(server.port))
    telemetry = MemoryTelemetry("marketplace")
    shop = Client(Marketplace(recommendations_timeout_ms=10_000), telemetry)
    try:
        for _ in range(3):
            assert len(shop.recommend(2, 3, within_s=10)) == 3
            Authority().write(folder)
            assert len(shop.recommend(2, 3, within_s=10)) == 3
        (folder / "marketplace.pem").write_bytes(b"half writ")  # it keeps what it had
        assert len(shop.recommend(2, 3, within_s=10)) == 3
    finally:
        shop.close()
    connections = {(span.attributes or {})["network.peer.port"] for span in server.telemetry.spans()}
    assert len(connections) == 4
    assert telemetry.value("grpc_client_handled_total", grpc_code="OK") == 7
    assert telemetry.value("grpc_client_handled_total") == 7
