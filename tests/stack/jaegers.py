"""A real Jaeger on this machine, by the repository's own jaeger.yaml."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from observability.testing import eventually
from tests.e2e.processes import ROOT, end, free_ports, get
from tools import jaeger

PROGRAM = shutil.which("jaeger")
PORT = r"0\.0\.0\.0:(\d+)|(?<=port: )(\d+)"

needs_jaeger = pytest.mark.skipif(
    PROGRAM is None, reason="needs Jaeger from 2.19 on; with one on PATH, named jaeger: make test-stack"
)


class Jaeger(jaeger.Jaeger):
    """Runs from start() until it is closed; ports are by those of jaeger.yaml."""

    def __init__(self, directory: Path) -> None:
        self._text = (ROOT / "jaeger.yaml").read_text()
        names = [one or other for one, other in re.findall(PORT, self._text)]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._directory = directory
        super().__init__(f"http://127.0.0.1:{self.ports['16686']}")

    @property
    def otlp(self) -> str:
        """Where it takes traces."""
        return f"http://127.0.0.1:{self.ports['4317']}"

    @property
    def log(self) -> str:
        """Its log."""
        return (self._directory / "jaeger.log").read_text()

    def start(self, prometheus: str) -> None:
        """Start it, or start it again with what it has kept; prometheus is the address of one."""
        there = {
            "host: 0.0.0.0": "host: 127.0.0.1",
            "0.0.0.0:": "127.0.0.1:",
            "/tmp/ui": str(ROOT),
            "http://prometheus:9090": prometheus,
        }
        text = re.sub(
            PORT,
            lambda found: found[0].replace(name := found[1] or found[2], str(self.ports[name])),
            self._text,
        )
        for theirs, ours in there.items():
            assert theirs in text
            text = text.replace(theirs, ours)
        config = self._directory / "jaeger.yaml"
        config.write_text(text)
        # Its own traces, if it had any, would come to itself, as they do where it has its own port, and soon.
        own = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        command = [str(PROGRAM), "--config", str(config)]
        with (self._directory / "jaeger.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
        try:
            eventually(lambda: get(f"http://127.0.0.1:{self.ports['13133']}/status")[0] == 200, 60)
        except BaseException:
            self.close()
            raise

    def close(self, number: int = signal.SIGTERM) -> None:
        """Send the signal, and wait for its end."""
        end(self._process, number)
