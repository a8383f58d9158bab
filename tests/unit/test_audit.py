"""Known vulnerabilities out of a file, as OSV's own service answers."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.version import Version

from tools.audit import Database, served
from tools.licences import LOCK, locked

ROOT = Path(__file__).parents[2]
SUPPLY = ROOT / "var" / "supply"


def export(folder: Path, name: str, *events: dict[str, str], **affected: Any) -> Path:
    """OSV's export with one vulnerability."""
    file = folder / "all.zip"
    package = {
        "package": {"ecosystem": "PyPI", "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    with ZipFile(file, "w") as written:
        written.writestr("PYSEC-1.json", json.dumps({"id": "PYSEC-1", "affected": [package | affected]}))
    return file


@pytest.mark.parametrize(
    ("events", "vulnerable", "well"),
    [
        ([{"introduced": "0"}], ["0.1", "99"], []),
        ([{"introduced": "0"}, {"fixed": "2.0"}], ["1.9", "2.0rc1"], ["2.0", "3"]),
        ([{"introduced": "1.0"}, {"last_affected": "1.5"}], ["1.0", "1.5"], ["0.9", "1.5.1"]),
        (
            [{"introduced": "3"}, {"fixed": "4"}, {"introduced": "1"}, {"fixed": "2"}],
            ["1.5", "3.5"],
            ["2.5", "4"],
        ),
    ],
)
def test_a_version_is_in_the_range(
    tmp_path: Path, events: list[dict[str, str]], vulnerable: list[str], well: list[str]
) -> None:
    """From introduced on, up to fixed, or through last_affected, in whatever order the events stand."""
    database = Database(export(tmp_path, "Some.Thing", *events))
    assert all(database.about("some-thing", Version(version)) for version in vulnerable)
    assert not any(database.about("some-thing", Version(version)) for version in well)


def test_versions_that_are_listed_are_vulnerable(tmp_path: Path) -> None:
    """A record may name versions alone."""
    database = Database(export(tmp_path, "thing", versions=["1.1"], ranges=[]))
    assert database.about("thing", Version("1.1"))
    assert not database.about("thing", Version("1.2"))


def test_the_answer_is_osvs(tmp_path: Path) -> None:
    """Records under vulns, or an empty object."""

    def ask(url: str, name: str) -> Any:
        body = json.dumps({"package": {"name": name, "ecosystem": "PyPI"}, "version": "1"}).encode()
        with urllib.request.urlopen(url, body, timeout=10) as answer:
            return json.load(answer)

    with served(Database(export(tmp_path, "thing", {"introduced": "0"}))) as url:
        assert ask(url, "thing")["vulns"][0]["id"] == "PYSEC-1"
        assert ask(url, "other") == {}


@pytest.mark.skipif(not (SUPPLY / ".installed").exists(), reason="needs pip-audit; make sbom installs it")
@pytest.mark.parametrize(("name", "code"), [(locked(LOCK)[0], 1), ("none-of-ours", 0)])
def test_pip_audit_needs_no_network(tmp_path: Path, name: str, code: int) -> None:
    """With a file, a locked package that it knows is reported, and all is well without one."""
    command = [
        str(SUPPLY / "tools/bin/python"),
        "-m",
        "tools.audit",
        str(export(tmp_path, name, {"introduced": "0"})),
    ]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert ("PYSEC-1" in done.stdout) == bool(code)
