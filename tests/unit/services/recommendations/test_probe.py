"""The health check of recommendations' image."""

import os
import subprocess
import sys

from services.recommendations import probe
from services.recommendations.config import Settings
from tests.unit.services.recommending import Running


def asked(port: int) -> int:
    """The exit code of the probe, for recommendations on that port."""
    environ = os.environ | {"RECOMMENDATIONS_PORT": str(port)}
    return subprocess.run([sys.executable, "-I", probe.__file__], env=environ, check=False).returncode


def test_the_probe_reports_who_serves() -> None:
    """It exits with 0 while recommendations serves, and with 1 when nobody does."""
    running = Running(Settings(recommendations_port=0, drain_s=0, grace_s=1))
    assert asked(running.port) == 0
    running.close()
    assert asked(running.port) == 1
