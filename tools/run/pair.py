"""The pair from start to stop, with its receiver of traces and, where it is on PATH, Prometheus."""

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from services.marketplace.config import Settings as Marketplace
from services.ports import PortTaken
from services.recommendations.config import Settings as Recommendations
from services.settings import load
from tools.ports import Port, require_free, serves_grpc, serves_http
from tools.run.config import Settings, destination, export_settings, stable_names
from tools.run.page import Page
from tools.run.processes import (
    STOP_WITHIN_S,
    Checks,
    PairError,
    Process,
    StopRequests,
    supervised,
    wait_until_ready,
    watch,
)
from tools.run.terminal import TracePrinter
from tools.scrape import Endpoint
from tools.traces.kept import Kept, receiver

DIRECTORY = Path("var")
SERVICES = ("recommendations", "marketplace")
LOOPBACK = "127.0.0.1"
SCRAPE_INTERVAL = "5s"
NO_PAGE = "not served: the traces do not come here"
AFTER_GRACE_S = 1.3  # what a service may take to deliver its telemetry and end
ANNOUNCEMENT = """\
The bookshop is open.
  shop                       http://{ports.shop.address}
  its metrics                {metrics[marketplace].url}
  recommendations (gRPC)     {ports.recommendations.address}
  its metrics                {metrics[recommendations].url}
  Prometheus                 {prometheus}
  traces                     {traces}
  traces in a browser        {page}
  logs                       {directory}/marketplace.log, {directory}/recommendations.log
Ctrl-C stops it all.
"""


class Ports(NamedTuple):
    """The four ports of the pair."""

    shop: Port
    shop_metrics: Port
    recommendations: Port
    recommendations_metrics: Port


def run(stop: StopRequests, *, quiet: bool) -> int:
    """Run the pair until it is asked to stop, and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    settings = load(Settings), load(Recommendations), load(Marketplace)
    try:
        Pair(*settings).run(stop, quiet=quiet)
    except (PairError, PortTaken) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


class Pair:
    """Both services, each by its own settings."""

    def __init__(self, own: Settings, recommendations: Recommendations, marketplace: Marketplace) -> None:
        if recommendations.tls and not marketplace.recommendations_tls:
            raise PairError("TLS_CERT_FILE needs RECOMMENDATIONS_CA_FILE here: the shop calls over TLS")
        self._tls, self._name = marketplace.recommendations_tls, marketplace.recommendations_host
        grace_s = recommendations.drain_s + recommendations.grace_s  # the shop's are the same variables
        self._stop_within_s = max(STOP_WITHIN_S, grace_s + AFTER_GRACE_S)
        self._prometheus = Port("PROMETHEUS_PORT", LOOPBACK, own.prometheus_port)
        self._page = Port("TRACES_PORT", LOOPBACK, own.traces_port)
        self._ports = Ports(
            Port("MARKETPLACE_PORT", own.bind_host, marketplace.marketplace_port),
            Port("MARKETPLACE_METRICS_PORT", own.bind_host, marketplace.marketplace_metrics_port),
            Port("RECOMMENDATIONS_PORT", own.bind_host, recommendations.recommendations_port),
            Port("RECOMMENDATIONS_METRICS_PORT", own.bind_host, recommendations.recommendations_metrics_port),
        )
        self._metrics = {
            "marketplace": Endpoint(self._ports.shop_metrics.address, marketplace),
            "recommendations": Endpoint(self._ports.recommendations_metrics.address, recommendations),
        }

    def run(self, stop: StopRequests, *, quiet: bool) -> None:
        """Start, announce, and stay until asked to stop. Raise PairError or PortTaken when that cannot be."""
        require_free(*self._ports)
        DIRECTORY.mkdir(exist_ok=True)
        where = destination(os.environ, quiet=quiet)
        with ExitStack() as running:
            variables, page = self._receive(running, quiet=quiet) if where.embedded else ({}, NO_PAGE)
            processes = running.enter_context(supervised(stop, self._stop_within_s))
            checks = self._start(variables, processes)
            wait_until_ready(checks, stop)
            if stop.requested:
                return
            helper, words = start_prometheus(self._prometheus, self._metrics, DIRECTORY)
            processes.extend(filter(None, [helper]))
            sys.stdout.write(
                ANNOUNCEMENT.format(
                    ports=self._ports,
                    metrics=self._metrics,
                    prometheus=words,
                    traces=where.words,
                    page=page,
                    directory=DIRECTORY,
                )
            )
            watch([*checks], helper, stop)
            sys.stdout.write("Stopping; press Ctrl-C again to kill at once.\n")

    def _start(self, variables: Mapping[str, str], processes: list[Process]) -> Checks:
        environ = {**self._recommendations_host(), **os.environ, **stable_names(os.environ), **variables}
        for name in SERVICES:
            command = [sys.executable, "-m", f"services.{name}"]
            processes.append(Process(name, command, environ, DIRECTORY))
        recommendations, marketplace = processes
        return {
            recommendations: partial(serves_grpc, self._ports.recommendations, self._tls, self._name),
            marketplace: partial(serves_http, self._ports.shop),
        }

    def _recommendations_host(self) -> Mapping[str, str]:
        host = self._ports.recommendations.address.rpartition(":")[0]
        # The shop's own default, localhost, is kept where it does: a certificate may name it.
        return {} if host == LOOPBACK else {"RECOMMENDATIONS_HOST": host}

    def _receive(self, running: ExitStack, *, quiet: bool) -> tuple[dict[str, str], str]:
        """Receive, print and show the traces. What the services' environment needs, and where the page is."""
        kept = Kept()
        if not quiet:
            console = Console(highlight=False, markup=False, emoji=False)
            running.enter_context(closing(TracePrinter(kept, console)))
        variables = export_settings(os.environ, running.enter_context(closing(receiver(kept.add))).endpoint)
        try:
            require_free(self._page)
        except PortTaken as error:
            return variables, f"not served: {error}"
        logs = [DIRECTORY / f"{name}.log" for name in SERVICES]
        shop, url = f"http://{self._ports.shop.address}", f"http://{self._page.address}"
        page = Page(kept, self._page.host, self._page.number, self._metrics, logs, shop)
        running.enter_context(closing(page))
        return {"JAEGER_UI_URL": os.environ.get("JAEGER_UI_URL") or url, **variables}, url


def start_prometheus(
    port: Port, targets: Mapping[str, Endpoint], directory: Path
) -> tuple[Process | None, str]:
    """Start it, where it is on PATH, against the targets, by the job's name. It, and where it is."""
    program = shutil.which("prometheus")
    if program is None:
        return None, "not started: not on PATH"
    try:
        require_free(port)
    except PortTaken as error:
        return None, f"not started: {error}"
    config = directory / "prometheus.yml"
    config.write_text(prometheus_configuration(targets))
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={port.address}",
        "--enable-feature=exemplar-storage",
    ]
    return Process("prometheus", command, os.environ, directory), f"http://{port.address}"


def prometheus_configuration(targets: Mapping[str, Endpoint]) -> str:
    """What Prometheus reads; JSON is YAML too."""
    jobs = [target.job(job) for job, target in targets.items()]
    return json.dumps({"global": {"scrape_interval": SCRAPE_INTERVAL}, "scrape_configs": jobs}, indent=2)
