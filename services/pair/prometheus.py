"""Prometheus beside the pair, where it is on PATH."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from services.pair.ports import is_free, join
from services.pair.processes import Process

HOST = "127.0.0.1"
SCRAPE_INTERVAL = "5s"


def start(port: int, targets: Mapping[str, str], directory: Path) -> tuple[Process | None, str]:
    """Start it against the targets (job name to address); return it, and the line to say about it."""
    program = shutil.which("prometheus")
    if program is None:
        return None, "not started: prometheus is not on PATH"
    if not is_free(HOST, port):
        return None, f"not started: port {port} is in use; set PROMETHEUS_PORT to a free one"
    config = directory / "prometheus.yml"
    config.write_text(configuration(targets))
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={join(HOST, port)}",
        "--enable-feature=exemplar-storage",
    ]
    return Process("prometheus", command, os.environ, directory), f"http://{join(HOST, port)}"


def configuration(targets: Mapping[str, str]) -> str:
    """The configuration, as JSON, which is YAML too."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()]
    return json.dumps({"global": {"scrape_interval": SCRAPE_INTERVAL}, "scrape_configs": jobs}, indent=2)
