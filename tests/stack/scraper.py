"""A real Prometheus that scrapes services on this machine, by the repository's own prometheus.yml and alerts.yml."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from observability.testing import eventually
from tests.e2e.processes import ROOT, end, free_ports, get
from tests.stack.timelapse import faster, lasting
from tools import prometheus

PROGRAM = shutil.which("prometheus", path="/usr/local/bin") or shutil.which("prometheus")


class Prometheus(prometheus.Prometheus):
    """Runs until it is closed; its time is faster by the factor: 20 makes 5 s of the configuration 250 ms.

    jobs are scraped besides those of the configuration that have a target.
    """

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, int],
        factor: float = 20,
        alertmanager: str = "",
        jobs: Sequence[dict[str, Any]] = (),
    ) -> None:
        assert PROGRAM is not None
        (port,) = free_ports(1)
        super().__init__(f"http://127.0.0.1:{port}")
        config = _configuration(targets, factor, alertmanager)
        config["scrape_configs"] += jobs
        (directory / "alerts.yml").write_text(faster((ROOT / "alerts.yml").read_text(), factor))
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            PROGRAM,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        with (directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(lambda: get(f"{self.url}/-/ready")[0] == 200, 30)
        except BaseException:
            self.close()
            raise

    def names(self) -> set[str]:
        """The names of all series that there are or were."""
        return set(self.ask("label/__name__/values"))

    def values(self, label: str, selector: str) -> list[str]:
        """The values of a label that the selected series have."""
        return list(self.ask(f"label/{label}/values", **{"match[]": selector}))

    def close(self) -> None:
        end(self._process)


def _configuration(targets: Mapping[str, int], factor: float, alertmanager: str) -> dict[str, Any]:
    """prometheus.yml, but for where the services are and how long things take."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    config["global"] = {name: lasting(duration, factor) for name, duration in config["global"].items()}
    config["alerting"]["alertmanagers"] = (
        [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
    )
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
    return config
