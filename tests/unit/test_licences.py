"""The licences of what the images hold are such as we allow."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import licences

ROOT = Path(__file__).parents[2]


def test_those_of_the_images_are_allowed() -> None:
    """Each dependency of the lock is listed with a licence, and none is refused."""
    command = [sys.executable, "-m", "tools.licences"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    listed = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert listed["flask"] == "BSD-3-Clause"
    assert {"grpcio", "psycopg"} <= listed.keys()


def test_one_that_is_not_allowed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check fails with the name and the licence of what it refuses."""
    monkeypatch.setattr(licences, "ALLOWED", licences.ALLOWED - {"BSD-3-Clause"})
    assert licences.main() == 1
    assert "flask (BSD-3-Clause)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expression", "allowed"),
    [
        ("a", "MIT", True),
        ("a", "MIT AND PSF-2.0", True),
        ("a", "MIT AND GPL-3.0-only", False),
        ("a", "GPL-3.0-only OR MIT", True),
        ("a", "LGPL-3.0-only", False),
        ("psycopg", "LGPL-3.0-only", True),
        ("a", "", False),
    ],
)
def test_an_expression_is_read_as_spdx_has_it(name: str, expression: str, allowed: bool) -> None:
    """AND asks for all, OR for one."""
    assert licences.is_allowed(name, expression) is allowed
