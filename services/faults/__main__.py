"""Asks the service of this container: ``python -m services.faults {now|on NAME [SHARE] [MS] [CODE]|heal}``.

People use ``python -m tools.faults``, which runs this in each container.
"""

import sys

from services.faults.client import Refused, Unreachable, here


def main(command: str, *values: str) -> int:
    """Print the answer; the exit code (1: nobody listens, 2: refused)."""
    asked = here()
    try:
        for target in asked:
            print(target.ask(command, *values))  # noqa: T201
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Unreachable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if asked else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
