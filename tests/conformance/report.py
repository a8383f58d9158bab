"""Turns what was recorded of the stacks into docs/conformance.md."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.case import Case, Reason
from tests.conformance.checks import promises
from tests.conformance.matrix import CASES

PAGE = Path("docs/conformance.md")
COLUMNS = ("ours", "contrib", "py-grpc-prometheus", "both peers")
Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A promise, and for each stack the cases that could show it, with whether it was kept."""

    text: str
    kept: dict[str, dict[str, bool]]


def _server(flavour: str) -> Callable[[Case], bool]:
    return lambda case: case.name.startswith(f"{flavour}/")


def _client(flavour: str, pattern: str = "") -> Callable[[Case], bool]:
    return lambda case: case.name.startswith(f"{flavour} client/") and bool(re.search(pattern, case.name))


BLOCKING = "blocking clients: all else of grpc.Call and grpc.Future"
ASYNCIO = "asyncio clients: all else of grpc.aio.Call"
WHOLE_CALLS = {BLOCKING, ASYNCIO}
OPTIONS = "metadata|timeout|credentials|over |methods|compression|wait for ready|too many|no server"
TRANSPARENCY: dict[str, Callable[[Case], bool]] = {
    "handlers of every form and end, threaded server": _server("sync"),
    "plain handlers of every form and end, asyncio server": _server("plain"),
    "async handlers of every form and end, asyncio server": _server("aio"),
    "metadata: repeated, binary, initial, trailing, illegal; the caller's object": lambda case: (
        "client/" in case.name and "metadata" in case.name
    ),
    "timeouts": lambda case: "client/" in case.name and "timeout" in case.name,
    "call credentials, over TLS and without": lambda case: "credentials" in case.name,
    "ipv4, ipv6, unix sockets, TLS": lambda case: "/over " in case.name,
    "compression": lambda case: "/compression/" in case.name,
    "wait_for_ready": lambda case: "/wait for ready/" in case.name,
    "methods unknown, or without a slash": lambda case: " methods/" in case.name or "/methods " in case.name,
    "maximum_concurrent_rpcs": lambda case: "/one call too many/" in case.name,
    "when a call is sent, and what becomes of one that nobody reads": lambda case: bool(
        re.search("client/never (iterated|awaited)", case.name)
    ),
    "calls dropped by the client": lambda case: "client/" in case.name and "dropped" in case.name,
    BLOCKING: _client("sync", f"/(?!.*({OPTIONS}|never|dropped))"),
    ASYNCIO: _client("aio", f"/(?!.*({OPTIONS}|never|dropped))"),
}


NO_LOST_CONTEXT = 'true: no "Failed to detach context" in the log'
NO_NEW_LABEL = "bounded: methods that the server does not have become no new label"


def labels() -> list[str]:
    """What the rows are called, in their order."""
    true = [f"true: {text}" for text in promises()]
    return [f"transparent: {text}" for text in TRANSPARENCY] + true + [NO_LOST_CONTEXT, NO_NEW_LABEL]


def rows(records: Records) -> Iterator[Row]:
    """All rows of the table."""
    for text, belongs in TRANSPARENCY.items():
        cases = [case.name for case in CASES if belongs(case)]
        yield Row(
            f"transparent: {text}",
            {stack: _alike(records, stack, cases, text in WHOLE_CALLS) for stack in COLUMNS},
        )
    for text in promises():
        yield Row(f"true: {text}", {stack: _answers(records[stack], text) for stack in COLUMNS})
    yield Row(
        NO_LOST_CONTEXT,
        {stack: {"the whole run": records[stack]["lines"] == 0} for stack in COLUMNS},
    )
    yield Row(
        NO_NEW_LABEL,
        {stack: {"the whole run": records[stack]["labels"] == 0} for stack in COLUMNS if stack != "contrib"},
    )


def _alike(records: Records, stack: str, cases: list[str], whole: bool) -> dict[str, bool]:
    """Whether each case is as on bare grpcio, or as grpcio's own machinery for interceptors has it."""

    def same(case: str) -> bool:
        here = records[stack]["seen"][case]
        part = "blind" if here["no code"] and not whole else "whole"
        return here[part] in {records[name]["seen"][case][part] for name in ("bare", "idle")}

    return {case: same(case) for case in cases}


def _answers(recorded: dict[str, Any], text: str) -> dict[str, bool]:
    return {case: answers[text] for case, answers in recorded["kept"].items() if text in answers}


def table(all_rows: list[Row]) -> str:
    """The table itself."""
    head = f"| Promise | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}\n"
    return head + "\n".join(
        f"| {row.text} | {' | '.join(_cell(row.kept.get(stack, {})) for stack in COLUMNS)} |"
        for row in all_rows
    )


def _cell(kept: dict[str, bool]) -> str:
    if not kept:
        return ""
    score = f"{sum(kept.values())}/{len(kept)}"
    return f"**{score}**" if all(kept.values()) else score


def reasons() -> str:
    """The table of reasons why cases assert less than the others."""
    counts = Counter(case.reason for case in CASES if case.reason)
    lines = [f"| {reason.words} | {counts[reason]} | {reason.without} |" for reason in Reason]
    return "| Reason | Cases | Not asserted |\n|---|---|---|\n" + "\n".join(lines)


def failures(all_rows: list[Row], stack: str) -> str:
    """The cases in which a stack breaks each promise."""
    broken = {
        row.text: [case for case, kept in row.kept.get(stack, {}).items() if not kept] for row in all_rows
    }
    return "\n".join("\n  ".join([text, *cases]) for text, cases in broken.items() if cases)


def document(all_rows: list[Row], second_tries: int, versions: str) -> str:
    """The whole page."""
    reasoned = sum(case.reason is not None for case in CASES)
    return f"""# Who keeps which promise

Written by `make conformance`, which also writes the names of the cases that break a promise, to `var/conformance/`.
{versions}

Each case of `tests/conformance/` is a handler and a client; each was run on bare grpcio, on this package, on
opentelemetry-instrumentation-grpc ("contrib"), on py-grpc-prometheus, and on both of these together. A cell says in
how many of the cases that can show it the promise was kept. "transparent" means that client and handler saw the same
as on bare grpcio, or what grpcio's machinery for interceptors itself makes of it, as shown by an interceptor that does
nothing. "true" asks what telemetry recorded of the case; an empty cell means that there is nothing to ask, as a package
has no such signal: contrib has no metrics, py-grpc-prometheus no spans and nothing for asyncio, and only this package
has log lines. py-grpc-prometheus counts the messages of streams only, on purpose; here that counts as broken. Streams
from the peers' channels are plain generators: rows that are not about call objects do not hold this against them.
Cases of this package in which a deadline passed on a busy machine before the server heard of the call were run again,
alone: {second_tries}.

{table(all_rows)}

## Cases that assert less

{reasoned} of {len(CASES)} cases leave something out, for a reason; the others assert all of the above.

{reasons()}
"""
