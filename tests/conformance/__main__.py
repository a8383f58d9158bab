"""`python -m tests.conformance`: run the cases on all stacks and write docs/conformance.md."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.report import COLUMNS, PAGE, document, failures, rows

LISTS = Path("var/conformance")
PEERS = ("contrib", "py-grpc-prometheus", "both peers")
PATIENCE_S = 900.0
PACKAGES = (
    "grpcio",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-grpc",
    "prometheus-client",
    "py-grpc-prometheus",
)


def main() -> int:
    """Write the page and the lists; 1 when ours breaks a promise."""
    records = {
        name: recorded(name) for name in ("bare", "idle", "ours")
    }  # a busy machine might make them late
    with ThreadPoolExecutor() as pool:  # these wait for what hangs
        records |= zip(PEERS, pool.map(recorded, PEERS), strict=True)
    all_rows = [*rows(records)]
    second_tries = records["ours"]["second tries"]
    PAGE.write_text(document(all_rows, len(second_tries), versions()))
    LISTS.mkdir(parents=True, exist_ok=True)
    for stack in COLUMNS:
        path = LISTS / f"{stack.replace(' ', '-')}.txt"
        path.write_text(failures(all_rows, stack) + "\n")
        sys.stdout.write(f"written: {path}\n")
    sys.stdout.write(f"written: {PAGE}\nrun a second time: {second_tries}\n{failures(all_rows, 'ours')}\n")
    return int(bool(failures(all_rows, "ours")))


def recorded(name: str) -> dict[str, Any]:
    """What a separate process recorded of a stack."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.stack_process", name, str(path)]
        quiet = {**os.environ, "GRPC_VERBOSITY": "NONE"}
        subprocess.run(command, check=True, timeout=PATIENCE_S, stderr=subprocess.DEVNULL, env=quiet)
        record: dict[str, Any] = json.loads(path.read_text())
    sys.stdout.write(f"{name}: done\n")
    sys.stdout.flush()
    return record


def versions() -> str:
    """What was run."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {packages}."


if __name__ == "__main__":
    sys.exit(main())
