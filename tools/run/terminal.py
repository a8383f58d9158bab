"""Finished traces on the terminal, or as plain lines where the output is no terminal."""

import threading
from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tools.traces.kept import Kept
from tools.traces.trace import Row, Span, Trace

MAX_WIDTH = 120
BAR = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
LOOK_EVERY_S = 0.1


class TracePrinter:
    """Prints each trace when it is finished, on its own thread."""

    def __init__(self, kept: Kept, console: Console) -> None:
        self._kept = kept
        self._console = console
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trace-printer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Print what is left, and end."""
        self._stop.set()
        self._thread.join()
        self._print(self._kept.take_all())

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self._print(self._kept.take_finished())

    def _print(self, finished: Sequence[Trace]) -> None:
        for trace in finished:
            print_trace(trace, self._console)
        if finished and (dropped := self._kept.take_dropped()):
            self._console.print(f"{dropped} more spans came than are shown at once, and were left out")


def print_trace(trace: Trace, console: Console) -> None:
    """Print one trace: a line about all of it, then a line for each span."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    width = min(console.width, MAX_WIDTH) if console.is_terminal else MAX_WIDTH
    for row in trace.rows:
        table.add_row(*_cells(row, width // 6, plain=not console.is_terminal))
    console.print(Group(_header(trace), table), width=width)


def bar(row: Row, width: int, mark: str) -> str:
    """When the span ran, as at least one mark on a line of the given width."""
    start = min(int(row.offset * width), width - 1)
    length = min(max(round(row.share * width), 1), width - start)
    return (" " * start + mark * length).ljust(width)


def _header(trace: Trace) -> Text:
    root, took = trace.root, f"  {trace.milliseconds:.1f} ms  "
    return Text.assemble(("\ntrace ", "dim"), root.trace_id, "  ", (root.name, "bold"), took, _status(root))


def _cells(row: Row, bar_width: int, *, plain: bool) -> tuple[Text, ...]:
    picture = f"[{bar(row, bar_width, '=')}]" if plain else bar(row, bar_width, BAR)
    return (
        Text(row.span.service, "cyan"),
        Text("  " * row.depth + row.span.name),
        _status(row.span),
        Text(f"{row.span.milliseconds:.1f} ms"),
        Text(picture, "red" if row.span.failed else "green"),
    )


def _status(span: Span) -> Text:
    return Text(span.status, "bold red" if span.failed else "")
