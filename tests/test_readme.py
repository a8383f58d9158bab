"""What README shows works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

from observability.call import FAULTS
from observability.signals.logs import WARNINGS
from observability.signals.tracing import SERVER_FAULTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_runs() -> None:
    """The example of a service of one's own runs, and its log lines carry one trace id."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=ROOT,
        env=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
        text=True,
        capture_output=True,
        check=True,
    )
    assert "b'hello'" in done.stdout
    assert len(set(re.findall(r'"trace_id": "(\w+)"', done.stdout))) == 1


def test_the_table_of_statuses_is_the_codes() -> None:
    """Levels and faults in the table are those of the code."""
    rows = re.findall(
        r"^\| ([A-Z_, ]+) \| (unset|error) \| (?:unset|error) \| (\w+) \|$", README, re.MULTILINE
    )
    told = {status: (server, level) for names, server, level in rows for status in names.split(", ")}
    assert len(told) == 17
    for status, (server, level) in told.items():
        assert level == ("error" if status in FAULTS else "warn" if status in WARNINGS else "info")
        assert (server == "error") == (status in SERVER_FAULTS)


def test_the_targets_are_makes() -> None:
    """Each make target that README names is one that make help lists."""
    help_text = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    for target in set(re.findall(r"make ([a-z]+)", README)) - {"itself", "and"}:
        assert f"make {target}" in help_text or target == "help"
