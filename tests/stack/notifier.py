"""A real Alertmanager, started by compose.yaml's own words, and a webhook that takes what it sends."""

import json
import os
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.testing import eventually
from tests.e2e.processes import ROOT, free_ports, get
from tests.stack.timelapse import lasting

NAMES = ("alertmanager", "prometheus-alertmanager")  # Debian's package has the longer one
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
needs_alertmanager = pytest.mark.skipif(
    PROGRAM is None, reason="needs Alertmanager; with it on PATH: make test-stack"
)


class Webhook:
    """Takes messages; each is what Alertmanager posts about one group of alerts."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def said(self, status: str) -> list[tuple[str, set[str]]]:
        """The service and the alerts of each message in which some are "firing" or "resolved"."""
        named = [
            (
                message["groupLabels"]["job"],
                {alert["labels"]["alertname"] for alert in message["alerts"] if alert["status"] == status},
            )
            for message in self.messages
        ]
        return [(job, alerts) for job, alerts in named if alerts]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Alertmanager:
    """Runs until it is closed; its time is faster by the factor."""

    def __init__(self, directory: Path, webhook: str, factor: float) -> None:
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        config = directory / "alertmanager-given.yml"
        config.write_text(_faster((ROOT / "alertmanager.yml").read_text(), factor, directory))
        command = _command(config, directory) + f" --web.listen-address={self.address}"
        log = directory / "alertmanager.log"
        with log.open("wb") as file:
            environ = os.environ | {"ALERT_WEBHOOK_URL": webhook}
            self._process = subprocess.Popen(["sh", "-ec", command], env=environ, stdout=file, stderr=file)
        eventually(lambda: self._process.poll() is not None or get(f"{self.url}/-/ready")[0] == 200, 30)
        if self._process.poll() is not None and "/usr/share/" in log.read_text():
            pytest.skip("needs all of Debian's package of Alertmanager, its templates too")
        if self._process.poll() is not None and "field url_file not found" in log.read_text():
            pytest.skip("needs Alertmanager 0.26 or newer")
        assert self._process.poll() is None, log.read_text()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def post(self, *alerts: dict[str, str]) -> None:
        """Have alerts with these labels fire, as Prometheus does."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()

    def shown(self) -> set[str]:
        """The names of the alerts on its page, also of those that nobody is called about."""
        return {alert["labels"]["alertname"] for alert in json.loads(get(f"{self.url}/api/v2/alerts")[1])}

    def receivers(self) -> str:
        """The receiver of what no route matches, by the configuration that it has loaded."""
        loaded = yaml.safe_load(json.loads(get(f"{self.url}/api/v2/status")[1])["config"]["original"])
        return str(loaded["route"]["receiver"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def notifier(
    directory: Path, factor: float = 20, *, called: bool = True
) -> Iterator[tuple[Alertmanager, Webhook]]:
    """Both; called says whether the webhook's address is given to Alertmanager."""
    webhook = Webhook()
    try:
        alertmanager = Alertmanager(directory, webhook.url if called else "", factor)
        try:
            yield alertmanager, webhook
        finally:
            alertmanager.close()
    finally:
        webhook.close()


def _command(config: Path, directory: Path) -> str:
    """What the container runs, with this machine's places in it."""
    (script,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["alertmanager"]["command"]
    places = {
        "/etc/alertmanager.yml": str(config),
        "/tmp/": f"{directory}/",
        "=/alertmanager": f"={directory / 'alertmanager-data'}",
        "/bin/alertmanager": str(PROGRAM),
    }
    script = script.replace("$$", "$").strip()
    return re.sub("|".join(places), lambda found: places[found[0]], script)


def _faster(text: str, factor: float, directory: Path) -> str:
    """alertmanager.yml with less patience, and the address of the webhook where the test has it."""
    shorter = re.sub(r"(?<=(?:wait|rval): )\d+[smh]", lambda found: lasting(found[0], factor), text)
    return shorter.replace("/tmp/", f"{directory}/")
