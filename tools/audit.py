"""`make audit`: known vulnerabilities of what the images hold; with OSV=all.zip out of that file alone.

The file is the export that OSV has of PyPI, one record a file. Their schema: https://ossf.github.io/osv-schema/
"""

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from packaging.utils import canonicalize_name
from packaging.version import Version

LOCK = Path(__file__).parents[1] / "requirements.txt"
# strict: what cannot be looked up is a failure. Else pip-audit says that nothing was found.
PIP_AUDIT = ("-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip", "--strict")


class Database:
    """The records of an export, by package."""

    def __init__(self, file: Path) -> None:
        self._records: dict[str, list[Any]] = defaultdict(list)
        with ZipFile(file) as export:
            for name in export.namelist():
                record = json.loads(export.read(name))
                for affected in record.get("affected", ()):
                    if affected["package"]["ecosystem"] == "PyPI":
                        self._records[canonicalize_name(affected["package"]["name"])].append(record)

    def about(self, name: str, version: Version) -> list[Any]:
        """The records of vulnerabilities that a version of a package has."""
        return [
            record
            for record in self._records[canonicalize_name(name)]
            if any(
                canonicalize_name(affected["package"]["name"]) == canonicalize_name(name)
                and _has(affected, version)
                for affected in record["affected"]
            )
        ]


def _has(affected: dict[str, Any], version: Version) -> bool:
    ranges = (each for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM")
    return str(version) in affected.get("versions", ()) or any(
        _within(each["events"], version) for each in ranges
    )


def _within(events: list[dict[str, str]], version: Version) -> bool:
    """Whether the last event at or before a version leaves it vulnerable."""
    inside = False
    for kind, at in sorted(
        ((kind, Version(at)) for event in events for kind, at in event.items()), key=lambda e: e[1]
    ):
        if kind == "introduced" and at <= version:
            inside = True
        elif (kind == "fixed" and at <= version) or (kind == "last_affected" and at < version):
            inside = False
    return inside


@contextmanager
def served(database: Database) -> Iterator[str]:
    """OSV's query, answered on loopback; the value is its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = database.about(asked["package"]["name"], Version(asked["version"]))
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print no line a request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def main() -> int:
    """Run pip-audit; the exit code is its: 1 when something is known, or cannot be looked up."""
    if len(sys.argv) == 1:
        return _run()
    with served(Database(Path(sys.argv[1]))) as url:
        return _run("--vulnerability-service=osv", f"--osv-url={url}")


def _run(*options: str) -> int:
    environ = os.environ | {"NO_PROXY": "127.0.0.1"}
    return subprocess.run([sys.executable, *PIP_AUDIT, *options], check=False, env=environ).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
