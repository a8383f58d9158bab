"""Why was a trace slow, or why did it fail? ``python -m tools.why TRACE``, about a trace of `make run`."""

import argparse
import sys
from urllib.parse import quote

from services.settings import load
from tools.run.config import Settings
from tools.web import ask

OK = 200


def main() -> int:
    """Print what the page of `make run` says of the trace; the exit code is 1 when that has no such trace."""
    parser = argparse.ArgumentParser(prog="python -m tools.why", description="Say why a trace was slow.")
    parser.add_argument("trace", metavar="TRACE", help="its id, as in the foot of the shop's pages")
    trace_id = parser.parse_args().trace
    url = f"http://127.0.0.1:{load(Settings).traces_port}"
    try:
        answer = ask(f"{url}/trace/{quote(trace_id)}/why")
    except OSError as error:
        sys.stderr.write(f"{url} does not answer ({error}): this is about the traces of a running make run\n")
        return 2
    if answer.status != OK:
        sys.stderr.write(f"{url} has no trace {trace_id}: it shows the latest, and the oldest go\n")
        return 1
    sys.stdout.write(answer.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
