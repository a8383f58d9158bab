"""Why are there no traces, no metrics, or an empty dashboard? ``python -m tools.doctor``."""

import argparse
import sys
from collections.abc import Iterator

from services.core_log import is_of_core
from services.stderr import StandardError
from tools.doctor import causes, follow, parts
from tools.doctor.config import Place, place
from tools.doctor.finding import Finding

STDERR_S = 0.5
# What others follow from comes before them.
CHECKS = (
    parts.docker,
    parts.shop,
    parts.recommendations,
    parts.jaeger,
    parts.otlp,
    parts.prometheus,
    parts.logs,
    parts.alertmanager,
    parts.grafana,
    parts.clock,
    follow.page,
)


def main() -> int:
    """Print a line for each check as it is made; the exit code is 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.doctor", description="Find what is broken.")
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds to wait for telemetry to arrive"
    )
    where = place(parser.parse_args().patience)
    stderr = StandardError(is_of_core)  # whose words are in the findings
    bad = []
    for finding in examine(where):
        print(finding, flush=True)  # noqa: T201
        bad += [finding.name] if finding.state == "FAIL" else []
    stderr.close(STDERR_S)
    print(f"Begin with {bad[0]}: the line says what to do." if bad else "All is well.")  # noqa: T201
    return 1 if bad else 0


def examine(where: Place) -> Iterator[Finding]:
    """Every finding, in the order in which a request reaches the parts."""
    yield from causes.sorted_out(finding for check in CHECKS for finding in check(where))


if __name__ == "__main__":
    sys.exit(main())
