"""Prometheus beside the pair, where it is on PATH."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from services.ports import PortTaken
from tools.run.ports import Port, require_free
from tools.run.processes import Process

SCRAPE_INTERVAL = "5s"


def start(port: Port, targets: Mapping[str, str], directory: Path) -> tuple[Process | None, str]:
    """Start it against the targets (job name to address). Return it, and the words to say about it."""
    program = shutil.which("prometheus")
    if program is None:
        return None, "not started: not on PATH"
    try:
        require_free(port)
    except PortTaken as error:
        return None, f"not started: {error}"
    config = directory / "prometheus.yml"
    config.write_text(configuration(targets))
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={port.address}",
        "--enable-feature=exemplar-storage",
    ]
    return Process("prometheus", command, os.environ, directory), f"http://{port.address}"


def configuration(targets: Mapping[str, str]) -> str:
    """What Prometheus reads; JSON is YAML too."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()]
    return json.dumps({"global": {"scrape_interval": SCRAPE_INTERVAL}, "scrape_configs": jobs}, indent=2)
