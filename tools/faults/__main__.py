"""Switch faults: ``python -m tools.faults {list|now|on NAME [SHARE] [MS] [CODE]|heal}``."""

import argparse
import sys

from services.faults.catalogue import FAULTS, Fault
from services.faults.client import Refused, Unreachable
from services.faults.switch import BadFault, named
from tools.faults.targets import targets


def main() -> int:
    """Do what the arguments say; the exit code (1: nobody listens, 2: wrong arguments)."""
    arguments = _parser().parse_args()
    if arguments.command == "list":
        print("\n\n".join(map(expectation, FAULTS.values())), end="\n\n")  # noqa: T201
    try:
        for line in _ask(arguments):
            print(line)  # noqa: T201
    except (BadFault, Refused) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Unreachable as error:
        sys.stderr.write(f"{error}\n")
        return 0 if arguments.command == "list" else 1
    return 0


def expectation(fault: Fault) -> str:
    """What a fault does and where it shows, as text."""
    values = {"SHARE": fault.share, "MS": fault.ms, "CODE": fault.code}
    given = "".join(f" {name}={value}" for name, value in values.items() if value is not None)
    return (
        f"{fault.name}{given}\n"
        f"  {fault.service} {fault.does}\n"
        f"  alert  {fault.alert} ({fault.severity})\n"
        f"  panel  {fault.panel} (dashboard {fault.board})\n"
        f"  trace  {fault.culprit}"
    )


def _ask(arguments: argparse.Namespace) -> list[str]:
    if arguments.command == "on":
        values = (arguments.name, arguments.share, arguments.ms, arguments.code)
        asked = targets(named(arguments.name).service)
        return [f"{target.service}: {target.ask('on', *values)}" for target in asked]
    command = "heal" if arguments.command == "heal" else "now"
    return [f"{target.service}: {target.ask(command)}" for target in targets()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description="Switch faults.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what each fault does and where it shows, and what is on")
    commands.add_parser("now", help="what is on")
    on = commands.add_parser("on", help="switch a fault on")
    on.add_argument("name", metavar="NAME")
    for name, allowed in (("share", "0 to 1"), ("ms", "0 to 10000"), ("code", "a gRPC code")):
        on.add_argument(name, metavar=name.upper(), nargs="?", default="", help=allowed)
    commands.add_parser("heal", help="switch all faults off")
    return parser


if __name__ == "__main__":
    sys.exit(main())
