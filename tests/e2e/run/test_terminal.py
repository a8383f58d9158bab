import io
from dataclasses import replace

import pytest
from rich.console import Console

from observability.testing import eventually
from tests.e2e.run.spans import CLIENT, ROOT, SERVER
from tools.run.terminal import TracePrinter, print_trace
from tools.traces.kept import MAX_SPANS, Kept
from tools.traces.trace import Trace

NOT_FOUND = replace(CLIENT, status="NOT_FOUND", failed=True)


def printed(*, tty: bool) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=tty, color_system="standard" if tty else None, width=100
    )
    print_trace(Trace([ROOT, NOT_FOUND, SERVER]), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    """A file gets a header and a line for each span, in plain ASCII without colours."""
    header, *rows = printed(tty=False).strip().splitlines()
    assert header.split() == ["trace", "aa", "GET", "/", "10.0", "ms", "200"]
    assert [row.split("[")[0].split() for row in rows] == [
        ["marketplace", "GET", "/", "200", "10.0", "ms"],
        ["marketplace", "Recommend", "NOT_FOUND", "6.0", "ms"],
        ["recommendations", "Recommend", "OK", "2.0", "ms"],
    ]
    assert all(row.endswith("]") for row in rows)
    assert "".join(rows).isascii()
    assert "\x1b" not in header


def test_errors_are_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failed span's status is red, and only its."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31mNOT_FOUND" in printed(tty=True)
    assert "\x1b[1;31mOK" not in printed(tty=True)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR there are no colour codes."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in printed(tty=True)
    assert "31m" not in printed(tty=True)


@pytest.mark.parametrize("width", [60, 80])
def test_a_row_is_a_line_on_a_narrow_terminal(width: int) -> None:
    """Long names are cut, rows are never folded."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    long_name = replace(ROOT, name="a name that is longer than any terminal " * 4)
    print_trace(Trace([long_name, NOT_FOUND]), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("NOT_") == 1


def test_the_printer_prints_finished_traces_and_at_the_end_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trace that came is lost when the pair stops, and what was left out is counted."""
    console = Console(file=(file := io.StringIO()))
    kept = Kept()
    printer = TracePrinter(kept, console)
    kept.add([ROOT])
    eventually(lambda: "trace aa" in file.getvalue())
    kept.add(replace(ROOT, trace_id="bb", span_id=str(number)) for number in range(MAX_SPANS + 1))
    printer.close()
    assert "trace bb" in file.getvalue()
    assert "1 more spans came than are shown at once" in file.getvalue()
