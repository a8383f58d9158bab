"""`make bench`: runs the servers side by side and writes what telemetry costs to docs/cost.md.

A run that is narrowed by an option only prints: ARGS="--rounds 3 --calls 1000 --only tutorial,shipped".
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.cost.load import call, paced
from benchmarks.cost.processes import Process
from benchmarks.cost.report import PAIRS, Figures, document, tables
from benchmarks.cost.servers import SHIPPED, TUTORIAL, UNOBSERVED, VARIANTS, variables
from observability.testing import eventually

ROUNDS, CALLS, WARM_UP = 9, 2000, 2000
DELIVERY_S = 30.0
DOCUMENT = Path("docs/cost.md")


class Bench:
    """The servers, the receiver of their spans, and what has been measured."""

    def __init__(self, names: list[str], directory: Path, stack: ExitStack) -> None:
        self._received = directory / "received.json"
        command = ["benchmarks.cost.receiver", str(self._received)]
        receiver = stack.enter_context(Process(directory / "receiver", *command))
        self._directory = directory
        self._settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver.target}",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
        }
        self._servers = {
            name: stack.enter_context(
                Process(
                    directory / f"{name}.log",
                    "benchmarks.cost.servers",
                    name,
                    **self._settings | variables(name),
                )
            )
            for name in names
        }
        self._pairs = [pair for pair in PAIRS if set(pair) <= self._servers.keys()]
        self._calls = dict.fromkeys(names, 0)
        self._rates: dict[str, float] = {}
        self.figures = Figures(names)

    def warm_up(self, calls: int) -> None:
        """Load each server without measuring it, and see how many calls a second it can serve."""
        for name, server in self._servers.items():
            call(server.target, calls)
            self._rates[name] = call(server.target, calls)
            self._settle(name, 2 * calls)

    def round(self, calls: int) -> None:
        """Measure each server once, in a new order."""
        for name in random.sample(list(self._servers), len(self._servers)):
            server = self._servers[name]
            before = server.cpu_s()
            call(server.target, calls)
            self._settle(name, calls)
            self.figures.cost(name, (server.cpu_s() - before) / calls * 1e6)
        for pair in self._pairs:
            for name in random.sample(pair, len(pair)):
                rate = self._rates[pair[1]] / 2
                self.figures.latency(name, rate, paced(self._servers[name].target, calls, rate))
                self._settle(name, calls + 1)

    def page(self) -> None:
        """Measure the shop's page."""
        target = self._servers[SHIPPED].target
        command = ["benchmarks.cost.page", target, str(self._directory / "page.log")]
        self.figures.page_us = json.loads(_output(command, self._settings))

    def scrapes(self) -> None:
        """Measure reads of /metrics."""
        self.figures.scrapes = json.loads(_output(["benchmarks.cost.scrape"], {}))

    def _settle(self, name: str, calls: int) -> None:
        """Wait until the spans of these calls are delivered."""
        self._calls[name] += calls
        if name not in UNOBSERVED:
            eventually(lambda: self._delivered().get(name) == self._calls[name], DELIVERY_S)

    def _delivered(self) -> dict[str, int]:
        return dict(json.loads(self._received.read_text())) if self._received.exists() else {}


def main() -> None:
    """Measure, print, and write the document when nothing was left out."""
    asked = _arguments()
    words = asked.only.split(",")
    names = [name for name in VARIANTS if name == TUTORIAL or any(name.startswith(word) for word in words)]
    whole = len(names) == len(VARIANTS)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        bench = Bench(names, Path(directory), stack)
        bench.warm_up(WARM_UP)
        for number in range(asked.rounds):
            bench.round(asked.calls)
            print(f"round {number + 1} of {asked.rounds}", file=sys.stderr)
        if whole:
            bench.page()
            bench.scrapes()
    print(tables(bench.figures))
    if whole and asked.rounds >= ROUNDS and asked.calls >= CALLS:
        DOCUMENT.write_text(document(bench.figures, asked.rounds, asked.calls, WARM_UP))


def _output(command: list[str], settings: dict[str, str]) -> str:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=inherited | settings,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--calls", type=int, default=CALLS, help="calls for each server in a round")
    parser.add_argument("--only", default="", help="variants, by how their names begin, with commas between")
    return parser.parse_args()


if __name__ == "__main__":
    main()
