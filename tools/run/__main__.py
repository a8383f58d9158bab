"""Run the pair on this machine: ``python -m tools.run [--quiet]``."""

import argparse
import sys

from tools.run.processes import StopRequests


def main() -> int:
    """Parse the arguments, and run the pair until it is asked to stop."""
    stop = StopRequests()
    stop.take_signals()
    parser = argparse.ArgumentParser(
        prog="python -m tools.run", description="Run both services on this machine."
    )
    parser.add_argument("--quiet", action="store_true", help="print no traces")
    arguments = parser.parse_args()

    # Late, because it takes a while: a Ctrl-C must find its handler from the first moment on.
    from tools.run.pair import run

    return run(stop, quiet=arguments.quiet)


if __name__ == "__main__":
    sys.exit(main())
