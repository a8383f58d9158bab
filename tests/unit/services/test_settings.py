"""Settings: a wrong one is reported in one line, and the table in docs/operations.md is the code's."""

import re
from pathlib import Path

import pytest

from services import marketplace, recommendations
from services.marketplace.config import Settings as Marketplace
from services.recommendations.config import Settings as Recommendations
from services.settings import load, table
from tools.run.config import Settings as Pair

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("kind", "variable", "value", "allowed"),
    [
        (Recommendations, "RECOMMENDATIONS_PORT", "70000", " must be less than or equal to 65535"),
        (Recommendations, "RECOMMENDATIONS_PORT", "http", " must be a valid integer"),
        (Recommendations, "BOOKS_FILE", "/nowhere.csv", ": Path does not point to a file"),
        (Recommendations, "LOG_LEVEL", "LOUD", " must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        (Marketplace, "GRACE_S", "0", " must be greater than 0"),
        (Marketplace, "RECOMMENDATIONS_TIMEOUT_MS", "0", " must be greater than or equal to 1"),
        (Marketplace, "JAEGER_UI_URL", "ftp://x", "'http' or 'https'"),
    ],
)
def test_a_wrong_setting_is_one_line(
    kind: type, variable: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """It names the variable, the value, what is allowed and what to do; the process ends with 2."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        load(kind)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(variable)
    assert allowed in said
    assert said.endswith(f", got '{value}'; correct it, or leave it out for the default\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "mysql://shop:hunter2@db/books",
            "DATABASE_URL must be sqlite:///FILE, sqlite:// or "
            "postgresql://USER:PASSWORD@HOST:PORT/NAME, got the scheme 'mysql'; ",
        ),
        ("postgresql://shop:hunter2@db:port/books", "Port could not be cast to integer value as 'port'"),
    ],
)
def test_a_secret_is_not_shown(
    url: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database's address may hold a password: what is wrong is reported without it."""
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit):
        load(Marketplace)
    said = capsys.readouterr().err
    assert "hunter2" not in said
    assert why in said


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Recommendations, {"TLS_CERT_FILE"}),
        (Recommendations, {"TLS_CLIENT_CA_FILE"}),
        (Marketplace, {"RECOMMENDATIONS_KEY_FILE"}),
        (Marketplace, {"RECOMMENDATIONS_CERT_FILE", "RECOMMENDATIONS_KEY_FILE"}),
    ],
)
def test_settings_that_go_together(
    kind: type, given: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of a pair of settings is reported with the name of the other half."""
    for variable in given:
        monkeypatch.setenv(variable, str(ROOT / "pyproject.toml"))
    with pytest.raises(SystemExit):
        load(kind)
    assert re.search("must be set together.*, got", capsys.readouterr().err)


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable means the default."""
    monkeypatch.setenv("RECOMMENDATIONS_PORT", "")
    assert load(Recommendations).recommendations_port == 50051


def test_the_settings_are_listed() -> None:
    """The table has each setting of the code with who reads it and its default, and no other."""
    document = (ROOT / "docs/operations.md").read_text()
    readers: dict[tuple[str, str, str], str] = {}
    for reader, kind in (
        ("marketplace", Marketplace),
        ("recommendations", Recommendations),
        ("`make run`", Pair),
    ):
        for row in table(kind):
            readers[row] = "both" if row in readers else reader
    listed = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \| (.*?) \|$", document, re.MULTILINE)
    ours = [
        (name, reader, f"`{default}`" if default else "", text)
        for (name, default, text), reader in readers.items()
    ]
    assert sorted(listed) == sorted(ours)


def test_packages_are_documented() -> None:
    """The services say what they are."""
    assert marketplace.__doc__
    assert recommendations.__doc__
