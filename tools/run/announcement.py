"""The addresses, as one reads them when the pair is ready."""

from pathlib import Path
from typing import NamedTuple

from tools.run.ports import Port


class Ports(NamedTuple):
    """The four ports of the pair."""

    shop: Port
    shop_metrics: Port
    recommendations: Port
    recommendations_metrics: Port


def announcement(ports: Ports, prometheus: str, traces: str, directory: Path) -> str:
    """Where everything is, and how to stop it."""
    return f"""\
The bookshop is open.
  shop                       http://{ports.shop.address}
  its metrics                http://{ports.shop_metrics.address}/metrics
  recommendations (gRPC)     {ports.recommendations.address}
  its metrics                http://{ports.recommendations_metrics.address}/metrics
  Prometheus                 {prometheus}
  traces                     {traces}
  logs                       {directory}/marketplace.log, {directory}/recommendations.log
Ctrl-C stops it all.
"""
