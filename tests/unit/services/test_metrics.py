"""/metrics of a service behind TLS, certificates and tokens: by settings, and from files that change."""

import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from observability.testing import MemoryTelemetry
from services import metrics
from services.marketplace.config import Settings as Marketplace
from services.recommendations.config import Settings as Recommendations
from services.settings import ServiceSettings, load
from tools.certs import Authority

FILES = {
    "METRICS_CERT_FILE": "recommendations.pem",
    "METRICS_KEY_FILE": "recommendations.key",
    "METRICS_CLIENT_CA_FILE": "ca.pem",
    "METRICS_TOKEN_FILE": "token",
}
TOKEN = "this-is-the-first-token"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the settings, which are set."""
    Authority().write(tmp_path)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    for variable, file in FILES.items():
        monkeypatch.setenv(variable, str(tmp_path / file))
    return tmp_path


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    """Where a service serves /metrics by the settings."""
    with MemoryTelemetry("shop") as telemetry:
        yield metrics.serve(telemetry, 0, Recommendations())


def scrape(port: int, folder: Path, token: str = TOKEN) -> int:
    """The status that a client with the folder's files gets."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "marketplace.pem", folder / "marketplace.key")
    connection = HTTPSConnection("localhost", port, timeout=30, context=context)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_new_certificates_are_taken(
    port: int, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Clients of the new CA are served, those of the old one are not; half a file changes nothing."""
    old = tmp_path_factory.mktemp("old")
    for file in folder.iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    assert scrape(port, old) == 200
    (folder / "recommendations.key").write_bytes(b"half writ")
    assert scrape(port, old) == 200
    Authority().write(folder)
    assert scrape(port, folder) == 200
    with pytest.raises(OSError, match=r"(?i)certificate"):
        scrape(port, old)


def test_new_tokens_are_taken(port: int, folder: Path) -> None:
    """One takes the place of the other, through a file with both; a file that cannot be used changes nothing."""
    second = "that-is-the-second-token"
    file = folder / "token"
    assert [scrape(port, folder, token) for token in (TOKEN, second, "")] == [200, 401, 401]
    file.write_text(f"{TOKEN}\n{second}\n")
    assert [scrape(port, folder, token) for token in (TOKEN, second)] == [200, 200]
    file.write_text(f"{second}\n")
    assert [scrape(port, folder, token) for token in (TOKEN, second)] == [401, 200]
    for unusable in ("", "too short", "\xff" * 20):
        file.write_text(unusable)
        assert scrape(port, folder, second) == 200
    file.unlink()
    assert scrape(port, folder, second) == 200


@pytest.mark.parametrize("kind", [Marketplace, Recommendations])
@pytest.mark.parametrize(
    "content", ["", f"{TOKEN}\nshort\n", f"Bearer {TOKEN}", f"{TOKEN} {TOKEN}", f"{TOKEN}é"]
)
def test_a_file_without_tokens(
    kind: type[ServiceSettings], content: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The start ends with a line that names variable, file and reason, and shows no token."""
    file = folder / "token"
    file.write_text(content)
    with pytest.raises(SystemExit) as ended:
        load(kind)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(
        "METRICS_TOKEN_FILE must be a file of tokens, one a line, each at least 16 letters"
    )
    assert f"got '{file}': " in line
    assert TOKEN not in line


@pytest.mark.parametrize("without", ["METRICS_CERT_FILE", "METRICS_KEY_FILE"])
def test_settings_that_go_together(
    without: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of a pair is reported with the name of the other half, and a CA that would guard nothing, too."""
    assert load(Marketplace).metrics_cert_file == folder / "recommendations.pem"
    monkeypatch.delenv(without)
    with pytest.raises(SystemExit):
        load(Marketplace)
    assert "METRICS_CERT_FILE and METRICS_KEY_FILE must be set together" in capsys.readouterr().err
    for variable in ("METRICS_CERT_FILE", "METRICS_KEY_FILE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit):
        load(Marketplace)
    assert "METRICS_CLIENT_CA_FILE must be set together with METRICS_CERT_FILE" in capsys.readouterr().err
