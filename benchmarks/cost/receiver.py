"""A live OTLP receiver as a separate process: it parses what it gets and counts the spans of each service.

Run: python -m benchmarks.cost.receiver FILE (prints its port, and writes the numbers to FILE, as JSON;
ends when its standard input ends)
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from observability.receiver import Receiver


def main(file: str) -> None:
    """Serve until standard input ends."""
    counts: Counter[str] = Counter()
    part = Path(f"{file}.part")

    def count(resource: dict[str, Any], spans: Sequence[Any]) -> None:
        counts[resource["service.name"]] += len(spans)
        part.write_text(json.dumps(counts))
        part.replace(file)  # at once: a reader never sees half of it

    receiver = Receiver(count)
    print(receiver.endpoint.rpartition(":")[2], flush=True)
    sys.stdin.read()
    receiver.close()


if __name__ == "__main__":
    main(sys.argv[1])
