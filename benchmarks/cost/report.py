"""The figures as tables, for the terminal and for docs/cost.md."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from os import cpu_count
from statistics import median, quantiles

from benchmarks.cost.load import AT_ONCE
from benchmarks.cost.servers import ASYNCIO, OBSERVED, SHIPPED, TUTORIAL

PACKAGES = (
    "grpcio",
    "uvloop",
    "protobuf",
    "prometheus_client",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-grpc",
)
PAIRS = [(SHIPPED, SHIPPED + OBSERVED), (ASYNCIO, ASYNCIO + OBSERVED)]  # whose latency is compared
ABOUT = """\
# What telemetry costs

Made by `make bench` on {cores} cores, {system} {machine}, Python {python};
{packages}.

One client makes unary calls of `Recommend` from {at_once} threads, each with a deadline and a sampled parent.
Every call is recorded, and its span is delivered by OTLP to a live receiver before the clock is read; metrics
have exemplars, and log lines go to a file. Each server is a separate process. {warm_up} calls warm up, and
{rounds} rounds of {calls} calls for each server follow, each in a new order. Figures are medians of rounds.

{tables}

- tutorial: `grpc.server` with a pool of 10 threads and the tutorial's service.
- shipped: what `services/recommendations` runs, its pool of 2 to 64 threads, health and reflection included.
- asyncio: the same service in `grpc.aio` on uvloop.
- observed: with traces, metrics and a log line per call; always_on: with `OTEL_TRACES_SAMPLER=always_on`.
- with peers: opentelemetry-instrumentation-grpc and, on threads, py-grpc-prometheus {peer} with its
  histogram; for asyncio there is no such package. They write no log lines.
"""


class Figures:
    """What has been measured, round by round."""

    def __init__(self, names: Sequence[str]) -> None:
        self.costs_us: dict[str, list[float]] = {name: [] for name in names}
        self.rates: dict[str, float] = {}
        self.latencies_us: dict[str, dict[str, list[float]]] = {}
        self.page_us: dict[str, list[float]] = {}
        self.scrapes: dict[str, tuple[float, float]] = {}

    def cost(self, name: str, cost_us: float) -> None:
        """Take the CPU time of a call to the server in this round."""
        self.costs_us[name].append(cost_us)

    def latency(self, name: str, rate: float, took_s: Sequence[float]) -> None:
        """Take how long the calls took that came at this rate."""
        percents = quantiles(took_s, n=100)
        self.rates[name] = rate
        of_server = self.latencies_us.setdefault(name, {"p50": [], "p99": []})
        of_server["p50"].append(percents[49] * 1e6)
        of_server["p99"].append(percents[98] * 1e6)

    def of_tutorial(self, name: str, without: str = "") -> float:
        """The server's cost, less that of the other, as a share of the tutorial's."""
        others = self.costs_us[without] if without else [0.0] * len(self.costs_us[name])
        rounds = zip(self.costs_us[name], others, self.costs_us[TUTORIAL], strict=True)
        return median((cost - other) / base for cost, other, base in rounds)


def tables(figures: Figures) -> str:
    """All that was measured."""
    parts = [_costs(figures)]
    if figures.latencies_us:
        parts.append(_latencies(figures))
    if figures.page_us:
        parts += [_page(figures), _scrapes(figures)]
    return "\n\n".join(parts)


def _costs(figures: Figures) -> str:
    rows = [
        "## CPU time of the server for a call",
        "",
        "| Server | Median, us | Least to most | Of the tutorial's | Telemetry's, of the tutorial's |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, costs in figures.costs_us.items():
        bare = name.split(" ")[0]
        added = f"{figures.of_tutorial(name, bare):.2f}" if name != bare and bare in figures.costs_us else ""
        rows.append(
            f"| {name} | {median(costs):.0f} | {min(costs):.0f} to {max(costs):.0f} "
            f"| {figures.of_tutorial(name):.2f} | {added} |"
        )
    return "\n".join(rows)


def _latencies(figures: Figures) -> str:
    rows = [
        "## How long a call takes",
        "",
        "Calls start at regular times, however long others take, at half the rate that the observed server "
        "can serve.",
        "",
        "| Server | Calls a second | p50, us | p99, us | p50, of the unobserved | p99, of the unobserved |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, of_server in sorted(
        figures.latencies_us.items(), key=lambda item: list(figures.costs_us).index(item[0])
    ):
        bare = figures.latencies_us[name.split(" ")[0]]
        ratios = [
            median(mine / other for mine, other in zip(of_server[p], bare[p], strict=True)) for p in of_server
        ]
        shown = "".join(f" {ratio:.2f} |" for ratio in ratios) if of_server is not bare else " | |"
        p50, p99 = (median(values) for values in of_server.values())
        rows.append(f"| {name} | {figures.rates[name]:.0f} | {p50:.0f} | {p99:.0f} |{shown}")
    return "\n".join(rows)


def _page(figures: Figures) -> str:
    bare, observed = figures.page_us["without"], figures.page_us["with"]
    ratio = median(mine / other for mine, other in zip(observed, bare, strict=True))
    return (
        "## The shop's page\n\n"
        "CPU time of the shop for its home page, which calls recommendations: "
        f"{median(observed):.0f} us with telemetry, {median(bare):.0f} us without, {ratio:.2f} times."
    )


def _scrapes(figures: Figures) -> str:
    rows = ["## A read of /metrics", "", "| Methods that were called | ms | KiB |", "|--:|--:|--:|"]
    rows += [f"| {methods} | {ms:.1f} | {kib:.0f} |" for methods, (ms, kib) in figures.scrapes.items()]
    return "\n".join(rows)


def document(figures: Figures, rounds: int, calls: int, warm_up: int) -> str:
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
        tables=tables(figures),
    )
