"""Faults at random, one or two at a time, while people are in the shop: what they get, and what does not hold.

Run: python -m tests.chaos [--seed N] [--minutes M] [--only WORD] [--database postgresql]
Exit code 1 if anything does not hold; the same seed draws the same faults again.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.schedule import run
from tests.stack.postgresql import BINARIES


def main() -> int:
    """Print a line for each fault, and all that does not hold."""
    parser = argparse.ArgumentParser(description="Faults at random while people are in the shop.")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="draws the faults")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", default="", help="a word in the names of the faults to draw from")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite", help="the shop's")
    chosen = parser.parse_args()
    if chosen.database == "postgresql" and not BINARIES:
        parser.error("--database postgresql needs PostgreSQL: apt install postgresql")
    print(f"seed {chosen.seed}, {chosen.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        problems = run(Path(directory), chosen.seed, chosen.minutes * 60, chosen.only, chosen.database)
    print("\n".join(problems) or "all of it holds")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
