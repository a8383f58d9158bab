"""The benchmarks run: what they measure is for a quiet machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.recommendations.config import Settings
from tests.e2e.processes import ROOT
from tests.unit.services.recommending import Running

pytestmark = pytest.mark.full


def test_the_cost_of_a_page(tmp_path: Path) -> None:
    """It has a figure of each round, with telemetry and without."""
    server = Running(Settings(recommendations_port=0, drain_s=0, grace_s=1))
    command = [
        sys.executable,
        "-m",
        "benchmarks.cost.page",
        f"127.0.0.1:{server.port}",
        str(tmp_path / "log"),
    ]
    environ = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    measured = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=True).stdout
    server.close()
    rounds = json.loads(measured)
    assert {name: len(costs) > 5 for name, costs in rounds.items()} == {"with": True, "without": True}


def test_the_cost_of_a_call() -> None:
    """It has a line for each server, and its receiver gets every span."""
    options = ["--rounds", "1", "--calls", "50", "--only", "shipped"]
    command = [sys.executable, "-m", "benchmarks.cost", *options]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert {"tutorial", "shipped", "shipped observed", "shipped observed, always_on"} <= {
        line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")
    }
