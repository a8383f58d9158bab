"""The log lines of a trace."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_BYTES = 8 * 1024 * 1024  # of a file, from its end
MAX_LINES = 200
KNOWN = ("time", "level", "service", "event", "trace_id", "span_id")


def lines(trace_id: str, files: Iterable[Path]) -> list[dict[str, Any]]:
    """The lines of the files that bear the id, by time; `fields` has what not every line has."""
    found: list[dict[str, Any]] = []
    for file in files:
        for text in _tail(file).splitlines():
            line = _parsed(text) if trace_id in text else {}
            if line.get("trace_id") == trace_id:
                rest = {name: value for name, value in line.items() if name not in KNOWN}
                found.append({name: line.get(name, "") for name in KNOWN} | {"fields": rest})
    return sorted(found, key=lambda line: str(line["time"]))[:MAX_LINES]


def _tail(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - MAX_BYTES))
            return opened.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _parsed(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
