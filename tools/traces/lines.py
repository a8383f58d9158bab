"""The log lines of a trace: from the services' own files, or from the log store (VictoriaLogs)."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.traces.text import printable
from tools.web import ask

MAX_BYTES = 8 * 1024 * 1024  # of a file, from its end
MAX_LINES = 200
KNOWN = ("time", "level", "service", "event", "trace_id", "span_id")
# What the store calls them; it adds what the resource and the scope of a line say, and columns of its own.
STORED = ("_time", "severity_text", "service.name", "event_name", "trace_id", "span_id")
OF_STORE = ("_", "host.", "k8s.", "process.", "scope.", "service.", "severity_", "telemetry.")
MILLISECONDS = len("2026-01-02T03:04:05.678")

Line = Mapping[str, Any]


def of_files(trace_id: str, files: Iterable[Path]) -> list[Line]:
    """The lines of the files that bear the id, by time; `fields` has what not every line has."""
    found: list[Line] = []
    for file in files:
        for text in _tail(file).splitlines():
            line = _parsed(text) if trace_id in text else {}
            if line.get("trace_id") == trace_id:
                rest = {name: value for name, value in line.items() if name not in KNOWN}
                found.append({name: line.get(name, "") for name in KNOWN} | {"fields": rest})
    return _ordered(found)


def of_store(url: str, trace_id: str) -> list[Line]:
    """The same from the store at the address. Raises OSError when it does not answer."""
    query = urlencode({"query": f"trace_id:={json.dumps(trace_id)}", "limit": MAX_LINES})
    found: list[Line] = []
    for text in ask(f"{url}/select/logsql/query?{query}").text.splitlines():
        stored = _parsed(text)
        line = {name: stored.pop(theirs, "") for name, theirs in zip(KNOWN, STORED, strict=True)}
        line["time"] = line["time"][:MILLISECONDS] + "Z"
        line["event"] = line["event"] or stored.get(
            "_msg", ""
        )  # a line of Python's logging has no other name
        rest = {name: value for name, value in stored.items() if not name.startswith(OF_STORE)}
        found.append(line | {"fields": rest})
    return _ordered(found)


def words(line: Line) -> str:
    """The line for a person, the same from either place."""
    fields = [f"{name}={' '.join(str(value).split())}" for name, value in sorted(line["fields"].items())]
    return " ".join(printable(str(each)) for each in (*(line[name] for name in KNOWN[:4]), *fields))


def _ordered(lines: Iterable[Line]) -> list[Line]:
    """By their milliseconds, which is what both places have."""
    return sorted(lines, key=lambda line: [str(line[name]) for name in ("time", "service", "event")])[
        :MAX_LINES
    ]


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
