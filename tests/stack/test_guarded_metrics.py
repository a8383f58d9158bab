"""A real Prometheus scrapes what is guarded, by the job that docs/operations.md shows, while files change."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from observability.testing import eventually
from tests.e2e.processes import ROOT, Service, free_ports
from tests.stack.scraper import PROGRAM, Prometheus
from tools.certs import Authority

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack")
DOCUMENT = (ROOT / "docs/operations.md").read_text()
NAMES = "recommendations", "localhost", "127.0.0.1"


class Guarded(NamedTuple):
    """A service whose /metrics needs TLS, a certificate and a token, and the Prometheus that scrapes it."""

    prometheus: Prometheus
    service: Path
    scraper: Path

    def write(self, authority: Authority) -> None:
        """New files for both, of a CA."""
        for folder, name, names in ((self.service, "own", NAMES), (self.scraper, "prometheus", ("prom",))):
            (folder / "ca.pem").write_bytes(authority.pem)
            for file, content in zip(("key", "pem"), authority.issue(*names), strict=True):
                (folder / f"{name}.{file}").write_bytes(content)

    def error(self) -> str:
        """Why the last scrape failed; nothing when it did not."""
        (target,) = self.prometheus.targets()
        return str(target["lastError"])

    def is_up(self) -> bool:
        return self.prometheus.value("up") == 1


def shown(port: int, folder: Path) -> dict[str, Any]:
    """The job that the document shows, but for the target's port and Prometheus' folder."""
    (block,) = re.findall(r"```text\n(- job_name: recommendations\n.*?)```", DOCUMENT, re.DOTALL)
    text = block.replace("/etc/prometheus", str(folder)).replace("recommendations:9102", f"127.0.0.1:{port}")
    (job,) = yaml.safe_load(text)
    return dict(job)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    service, theirs = tmp_path / "service", tmp_path / "prometheus"
    for folder in (service, theirs):
        folder.mkdir()
        (folder / "token").write_text("the-token-of-the-test")
    port, metrics = free_ports(2)
    Guarded(None, service, theirs).write(Authority())  # type: ignore[arg-type]
    with ExitStack() as running:
        files = {"CERT": "own.pem", "KEY": "own.key", "CLIENT_CA": "ca.pem", "TOKEN": "token"}
        variables = {f"METRICS_{name}_FILE": str(service / file) for name, file in files.items()}
        started = Service(
            "recommendations",
            tmp_path,
            RECOMMENDATIONS_PORT=str(port),
            RECOMMENDATIONS_METRICS_PORT=str(metrics),
            **variables,
        )
        running.callback(started.stop)
        prometheus = Prometheus(tmp_path, {}, factor=10, jobs=[shown(metrics, theirs)])
        running.callback(prometheus.close)
        yield Guarded(prometheus, service, theirs)


def test_prometheus_is_let_in_and_kept_out(guarded: Guarded) -> None:
    """It is up with all files, and says what is wrong without each; new ones are taken by both while they run."""
    eventually(guarded.is_up, 60)
    token = guarded.service / "token"
    token.write_text("another-token-of-the-test")
    eventually(lambda: "401 Unauthorized" in guarded.error(), 30)
    token.write_text("another-token-of-the-test\nthe-token-of-the-test\n")
    eventually(guarded.is_up, 30)
    mixed = Authority()
    for file, content in zip(("key", "pem"), mixed.issue("prom"), strict=True):
        (guarded.scraper / f"prometheus.{file}").write_bytes(content)
    eventually(lambda: "tls: " in guarded.error(), 30)
    guarded.write(Authority())
    eventually(guarded.is_up, 30)
