"""A drill: switch a fault on, see it, find its trace, heal it. ``python -m tools.drill NAME``."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from services.faults.catalogue import Fault
from services.faults.client import Unreachable
from services.faults.switch import BadFault, named
from tools.doctor.config import Place, place
from tools.faults.targets import targets
from tools.prometheus import Prometheus
from tools.web import within

DASHBOARDS = Path("grafana") / "dashboards"
HELD_S = 1.0
SETTLE_S = 15.0


class Drill:
    """One fault's course. Raises OSError without Prometheus, Unreachable where faults are not allowed."""

    def __init__(self, fault: Fault, where: Place, interval: str) -> None:
        self._fault, self._where, self._patience_s = fault, where, where.patience_s
        self._prometheus = Prometheus(where.prometheus)
        self._queries = _queries(fault, interval)
        self.passed = False

    def steps(self) -> Iterator[tuple[str, str]]:
        """Each step, as what it is and what came of it."""
        fault, before = self._fault, self._level()
        yield "fault", f"{fault.service} {fault.does}"
        yield "before", f"{before:.3g} on panel {fault.panel!r}: {self._where.grafana}/d/{fault.board}"
        try:
            yield from self._switch_on()
            started_s = time.time()
            fires = self._wait(self._fires)
            yield "alert", fires or f"{fault.alert} does not fire within {self._patience_s:g} s"
            moved = within(SETTLE_S, lambda: self._level() > before)
            yield "panel", f"{before:.3g} -> {self._level():.3g}"
        finally:
            ended_s, healed = time.time(), self._heal()
        yield "heal", healed
        trace_id = self._trace(started_s, ended_s + (SETTLE_S if fault.held else 0))
        link = f"{self._where.jaeger}/trace/{trace_id}: " if trace_id else ""
        yield "trace", link + fault.culprit
        yield "log", self._where.search(trace_id or "fault")
        clear = bool(self._wait(lambda: not self._fires()))
        yield "clear", f"{fault.alert} {'is silent again' if clear else 'still fires'}"
        self.passed = bool(fires and moved and clear)

    def _switch_on(self) -> Iterator[tuple[str, str]]:
        for target in targets(self._fault.service):
            yield "switch", f"{target.service}: {target.ask('on', self._fault.name)}"
        yield "wait", f"for {self._fault.alert}: {self._where.prometheus}/alerts"

    def _heal(self) -> str:
        """Switch the fault off; a process that has crashed is left to whatever restarts it."""
        try:
            return ", ".join(f"{x.service}: {x.ask('heal')}" for x in targets(self._fault.service))
        except Unreachable:
            return f"{self._fault.service} is gone; {self._where.start} brings it back"

    def _fires(self) -> str:
        return self._prometheus.firing(self._fault.alert, self._fault.severity)

    def _wait(self, condition: Callable[[], object]) -> str:
        return str(within(self._patience_s, condition) or "")

    def _level(self) -> float:
        """What the panel shows, at its highest."""
        return max(self._prometheus.value(query) or 0 for query in self._queries)

    def _trace(self, started_s: float, ended_s: float) -> str:
        """The id of a request of the window that has an exemplar, if there is one.

        The slowest, if the fault takes time; else the last, which began when the fault was already on.
        """
        query = self._fault.exemplars
        # Requests that were held are measured when the fault is switched off, and scraped later.
        min_s = HELD_S if self._fault.held else 0.0

        def found() -> list[dict[str, Any]]:
            seen = self._prometheus.exemplars(query, started_s, ended_s) if query else []
            return [exemplar for exemplar in seen if float(exemplar["value"]) >= min_s]

        if not query or not within(SETTLE_S, found):
            return ""
        takes_time = self._fault.ms is not None or self._fault.held
        chosen = max(found(), key=lambda exemplar: float(exemplar["value" if takes_time else "timestamp"]))
        return str(chosen["labels"]["trace_id"])


def _queries(fault: Fault, interval: str) -> list[str]:
    """The panel's own queries, of all services."""
    board = json.loads((DASHBOARDS / f"{fault.board}.json").read_text())
    (panel,) = [panel for panel in board["panels"] if panel.get("title") == fault.panel]
    filled = {"$__rate_interval": interval, "$service": ".*", "$method": ".*", "$code": ".*"}
    expressions = [target["expr"] for target in panel["targets"]]
    for variable, value in filled.items():
        expressions = [expression.replace(variable, value) for expression in expressions]
    return expressions


def main() -> int:
    """Print each step; exit with 0 when the alert fired, the panel moved, and all recovered in the end."""
    parser = argparse.ArgumentParser(prog="python -m tools.drill", description="Drill one fault.")
    parser.add_argument("name", metavar="NAME", help="make faults lists them")
    parser.add_argument("--patience", type=float, default=900.0, help="seconds to wait for the alert")
    parser.add_argument("--interval", default="1m", help="window of the panel's rates")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a script's background commands ignore
    try:
        drill = Drill(named(arguments.name), place(arguments.patience), arguments.interval)
        for step, words in drill.steps():
            print(f"{step:<8}{words}", flush=True)  # noqa: T201
    except (BadFault, Unreachable) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"Prometheus does not answer: {error}; make doctor says what to do\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if drill.passed else 1


if __name__ == "__main__":
    sys.exit(main())
