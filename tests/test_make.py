"""The Makefile's own rules."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def planned(*variables: str) -> str:
    """The commands that make would run for the tests."""
    command = ["make", "--dry-run", "test", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_python_that_is_named_is_the_one_of_the_environment(tmp_path: Path) -> None:
    """Another Python than that of .venv makes it again; none that is named leaves it as it is."""
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.99\n")
    other.chmod(0o755)
    assert f"{other} -m venv --clear" in planned(f"PYTHON={other}")
    assert "-m venv" not in planned()
    assert "-m venv" not in planned(f"PYTHON={sys.executable}")
