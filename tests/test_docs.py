"""What README and docs show works as it stands; the commands in them are in test_commands.py."""

import json
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
FILES = (
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("examples/*.md"),
    *ROOT.glob("tests/*/*.md"),
)
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(FILES)}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a document that are in that language."""
    return [text for tag, text in FENCED.findall(DOCUMENTS[name]) if tag == language]


def examples(name: str) -> list[Any]:
    """The Python examples of a document."""
    return [
        pytest.param(example, id=f"{name}-{number}") for number, example in enumerate(blocks(name, "python"))
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_block_says_what_it_is(name: str) -> None:
    """Python and commands are run, queries too (tests/stack/test_rules.py), and text is only read."""
    assert {tag for tag, _ in FENCED.findall(DOCUMENTS[name])} <= {"python", "sh", "promql", "text"}


@pytest.mark.parametrize("example", [example for name in DOCUMENTS for example in examples(name)])
def test_the_examples_run(example: str, tmp_path: Path) -> None:
    """Each runs without a warning, one for pytest under pytest; the lines of one that calls carry one trace id."""
    file = tmp_path / "test_example.py"
    file.write_text(example)
    pytest_ = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "observability.pytest_plugin"]
    done = subprocess.run(
        [sys.executable, "-W", "error", *(pytest_ if "import pytest" in example else ()), file],
        cwd=tmp_path,
        env=os.environ | {"OTEL_TRACES_EXPORTER": "none", "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "class Slowest" in example:
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        trace_id = max(lines, key=lambda line: line["duration_ms"])["trace_id"]
        assert len(lines) == 3
        assert f'slowest_call_info{{method="Waiter/Wait",status="OK",trace_id="{trace_id}"}}' in done.stdout
    if "hello" in example and "import pytest" not in example:
        assert "b'hello'" in done.stdout
        assert len(set(re.findall(r'"trace_id": "(\w+)"', done.stdout))) == 1


def test_the_table_of_statuses_is_the_codes() -> None:
    """Levels and faults in the table are those of the code."""
    row = r"^\| ([A-Z_, ]+) \| (unset|error) \| (?:unset|error) \| (\w+) \|$"
    rows = re.findall(row, DOCUMENTS["docs/architecture.md"], re.MULTILINE)
    shown = {status: (server, level) for names, server, level in rows for status in names.split(", ")}
    assert len(shown) == 17
    for status, (server, level) in shown.items():
        assert level == ("error" if status in FAULTS else "warn" if status in WARNINGS else "info")
        assert (server == "error") == (status in SERVER_FAULTS)


def test_the_reference_is_the_codes() -> None:
    """What make lint asks, so that pytest alone shows it, too."""
    subprocess.run([sys.executable, "-m", "tools.reference", "--check"], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["README.md", "docs/observability.md", "docs/architecture.md"])
def test_the_metrics_are_there(name: str) -> None:
    """Each metric of the package that a document names is in the reference."""
    known = set(re.findall(r"^\| `(\w+)` \|", DOCUMENTS["docs/reference.md"], re.MULTILINE))
    named = set(re.findall(r"`((?:grpc_server|grpc_client|telemetry|http_server)_\w+)[`{]", DOCUMENTS[name]))
    assert named <= known


def test_the_readme_is_short() -> None:
    """It is read in two minutes; what is longer is in docs/."""
    assert len(DOCUMENTS["README.md"].splitlines()) <= 120


def anchors(text: str) -> set[str]:
    """The anchors that a reader of the text gets: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_lead_somewhere(name: str) -> None:
    """Each link to a file of the repository leads to one that is there, and to a heading that it has."""
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", FENCED.sub("", DOCUMENTS[name])):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), f"{target}#{anchor}"
