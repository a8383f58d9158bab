"""The pair from start to stop."""

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from services.marketplace.config import Settings as Marketplace
from services.ports import PortTaken
from services.recommendations.config import Settings as Recommendations
from services.settings import load
from tools.run import prometheus
from tools.run.config import Destination, Settings, destination, stable_names
from tools.run.ports import Port, require_free, serves_grpc, serves_http
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
from tools.run.received import received

DIRECTORY = Path("var")
SERVICES = ("recommendations", "marketplace")
LOOPBACK = "127.0.0.1"
AFTER_GRACE_S = 1.3  # what a service may take to deliver its telemetry and end
ANNOUNCEMENT = """\
The bookshop is open.
  shop                       http://{ports.shop.address}
  its metrics                http://{ports.shop_metrics.address}/metrics
  recommendations (gRPC)     {ports.recommendations.address}
  its metrics                http://{ports.recommendations_metrics.address}/metrics
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
            "marketplace": self._ports.shop_metrics.address,
            "recommendations": self._ports.recommendations_metrics.address,
        }

    def run(self, stop: StopRequests, *, quiet: bool) -> None:
        """Start, announce, and stay until asked to stop. Raise PairError or PortTaken when that cannot be."""
        require_free(*self._ports)
        DIRECTORY.mkdir(exist_ok=True)
        where = destination(os.environ, quiet=quiet)
        with (
            self._traces(where, quiet=quiet) as (variables, page),
            supervised(stop, self._stop_within_s) as processes,
        ):
            checks = self._start(variables, processes)
            wait_until_ready(checks, stop)
            if stop.requested:
                return
            helper, words = self._start_prometheus(processes)
            sys.stdout.write(
                ANNOUNCEMENT.format(
                    ports=self._ports,
                    prometheus=words,
                    traces=where.words,
                    page=page,
                    directory=DIRECTORY,
                )
            )
            watch([*checks], helper, stop)
            sys.stdout.write("Stopping; Ctrl-C once more kills at once.\n")

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

    def _start_prometheus(self, processes: list[Process]) -> tuple[Process | None, str]:
        helper, words = prometheus.start(self._prometheus, self._metrics, DIRECTORY)
        processes.extend(filter(None, [helper]))
        return helper, words

    @contextmanager
    def _traces(self, where: Destination, *, quiet: bool) -> Iterator[tuple[Mapping[str, str], str]]:
        if not where.embedded:
            yield {}, "not served: the traces do not come here"
            return
        logs = [DIRECTORY / f"{name}.log" for name in SERVICES]
        shop = f"http://{self._ports.shop.address}"
        with received(self._page, self._metrics, logs, shop, quiet=quiet) as variables_and_words:
            yield variables_and_words
