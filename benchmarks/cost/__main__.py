"""`make bench`: runs the servers side by side and writes what a call costs each to docs/cost.md.

A run that is narrowed by an option only prints: ARGS="--rounds 3 --calls 1000 --only tutorial,ours".
"""

import argparse
import json
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.cost.load import call
from benchmarks.cost.processes import Process
from benchmarks.cost.receiver import COUNTS
from benchmarks.cost.report import document, table
from benchmarks.cost.servers import BASE, TRACED, VARIANTS
from observability.testing import eventually

ROUNDS, CALLS, WARM_UP = 9, 2000, 2000
DELIVERY_S = 30.0
DOCUMENT = Path("docs/cost.md")


class Bench:
    """The servers, the receiver of their spans, and what has been measured."""

    def __init__(self, names: list[str], directory: Path, stack: ExitStack) -> None:
        receiver = stack.enter_context(Process(directory / "receiver", "benchmarks.cost.receiver"))
        channel = stack.enter_context(grpc.insecure_channel(receiver.target))
        self._received: Any = channel.unary_unary(COUNTS)
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver.target}",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
        }
        self._servers = {
            name: stack.enter_context(
                Process(directory / f"{name}.log", "benchmarks.cost.servers", name, **settings)
            )
            for name in names
        }
        self._calls = dict.fromkeys(names, 0)
        self.costs_us: dict[str, list[float]] = {name: [] for name in names}

    def round(self, calls: int) -> None:
        """Measure each server once, in a new order."""
        for name in random.sample(list(self._servers), len(self._servers)):
            server = self._servers[name]
            before = server.cpu_s()
            self.load(name, calls)
            self.costs_us[name].append((server.cpu_s() - before) / calls * 1e6)

    def load(self, name: str, calls: int) -> None:
        """Make the calls, and wait until their spans are delivered."""
        call(self._servers[name].target, calls)
        self._calls[name] += calls
        if name in TRACED:
            eventually(lambda: json.loads(self._received(b"")).get(name) == self._calls[name], DELIVERY_S)

    def warm_up(self, calls: int) -> None:
        """Load each server without measuring it."""
        for name in self._servers:
            self.load(name, calls)


def main() -> None:
    """Measure, print, and write the document when nothing was left out."""
    asked = _arguments()
    words = asked.only.split(",")
    names = [name for name in VARIANTS if name == BASE or any(name.startswith(word) for word in words)]
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        bench = Bench(names, Path(directory), stack)
        bench.warm_up(WARM_UP)
        for number in range(asked.rounds):
            bench.round(asked.calls)
            print(f"round {number + 1} of {asked.rounds}", file=sys.stderr)
    print(table(bench.costs_us))
    if len(names) == len(VARIANTS) and asked.rounds >= ROUNDS and asked.calls >= CALLS:
        DOCUMENT.write_text(document(bench.costs_us, asked.rounds, asked.calls, WARM_UP))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--calls", type=int, default=CALLS, help="calls for each server in a round")
    parser.add_argument("--only", default="", help="variants, by how their names begin, with commas between")
    return parser.parse_args()


if __name__ == "__main__":
    main()
