"""What README and docs show works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from observability.call import FAULTS
from observability.signals.logs import WARNINGS
from observability.signals.tracing import SERVER_FAULTS

ROOT = Path(__file__).parents[1]
DOCUMENTS = {path.name: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}


def examples(name: str) -> list[Any]:
    """The Python examples of a document."""
    found = re.findall(r"```python\n(.*?)```", DOCUMENTS[name], re.DOTALL)
    return [pytest.param(example, id=f"{name}-{number}") for number, example in enumerate(found)]


@pytest.mark.parametrize("example", [example for name in DOCUMENTS for example in examples(name)])
def test_the_examples_run(example: str) -> None:
    """Each example runs without a warning; the log lines of one that makes a call carry one trace id."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=ROOT,
        env=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
        text=True,
        capture_output=True,
        check=True,
    )
    if "hello" in example:
        assert "b'hello'" in done.stdout
        assert len(set(re.findall(r'"trace_id": "(\w+)"', done.stdout))) == 1


def test_the_table_of_statuses_is_the_codes() -> None:
    """Levels and faults in the table are those of the code."""
    row = r"^\| ([A-Z_, ]+) \| (unset|error) \| (?:unset|error) \| (\w+) \|$"
    rows = re.findall(row, DOCUMENTS["architecture.md"], re.MULTILINE)
    shown = {status: (server, level) for names, server, level in rows for status in names.split(", ")}
    assert len(shown) == 17
    for status, (server, level) in shown.items():
        assert level == ("error" if status in FAULTS else "warn" if status in WARNINGS else "info")
        assert (server == "error") == (status in SERVER_FAULTS)


def test_the_targets_are_makes() -> None:
    """Each make target that a document names is one that make help lists."""
    help_text = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    named = {target for text in DOCUMENTS.values() for target in re.findall(r"`make ([a-z]+)", text)}
    for target in named:
        assert f"make {target}" in help_text or target == "help"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_lead_somewhere(name: str) -> None:
    """Each link to a file of the repository leads to one that is there."""
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", DOCUMENTS[name]):
        assert (folder / target).exists(), target
