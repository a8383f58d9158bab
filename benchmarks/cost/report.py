"""The figures as a table, for the terminal and for docs/cost.md."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import cpu_count
from statistics import median

from benchmarks.cost.load import AT_ONCE
from benchmarks.cost.servers import BASE

PACKAGES = (
    "grpcio",
    "uvloop",
    "protobuf",
    "prometheus_client",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-grpc",
)
ABOUT = """\
# What a call costs

CPU time of the server's process, all of its threads included, for one unary `Recommend`. Each variant is a
process of its own. Every call is sampled, and its span is delivered by OTLP to a live receiver before the
clock is read; log lines go to a file. One client calls from {at_once} threads, as the shop does, each time
with a deadline and a sampled parent. {warm_up} calls warm up; then come {rounds} rounds of {calls} calls for
each variant, each round in a new order.

Made by `make bench` on {cores} cores, {system} {machine}, Python {python};
{packages}.

{table}

- tutorial: `grpc.server` with a pool of 10 threads and the tutorial's service, not observed.
- bare asyncio: `grpc.aio` on uvloop, as `services/recommendations` serves, not observed.
- ours: `observability` on that server, with one signal alone, and with traces, metrics (with exemplars) and a
  log line per call. ours threaded: the same on the tutorial's server.
- peers asyncio: opentelemetry-instrumentation-grpc on the asyncio server. There are no metrics, because
  py-grpc-prometheus cannot observe it.
- peers threaded: opentelemetry-instrumentation-grpc and py-grpc-prometheus {peer} (with its histogram) on the
  tutorial's server.

The peers write no log lines.
"""


def table(costs_us: Mapping[str, Sequence[float]]) -> str:
    """A row for each variant: median, range and the median's ratio to the tutorial's."""
    base = median(costs_us[BASE])
    rows = ["| Server | Median, us per call | Least to most | Of the tutorial's |", "|---|--:|--:|--:|"]
    for name, costs in costs_us.items():
        middle = median(costs)
        rows.append(f"| {name} | {middle:.0f} | {min(costs):.0f} to {max(costs):.0f} | {middle / base:.2f} |")
    return "\n".join(rows)


def document(costs_us: Mapping[str, Sequence[float]], rounds: int, calls: int, warm_up: int) -> str:
    """The whole of docs/cost.md."""
    return ABOUT.format(
        at_once=AT_ONCE,
        warm_up=warm_up,
        rounds=rounds,
        calls=calls,
        cores=cpu_count(),
        system=platform.system(),
        machine=platform.machine(),
        python=platform.python_version(),
        packages=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        peer=version("py-grpc-prometheus"),
        table=table(costs_us),
    )
