"""Runs all cases on one stack, in a separate process, and writes down what was seen and what was kept."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from tests.conformance.case import Case
from tests.conformance.checks import answers
from tests.conformance.matrix import CASES
from tests.conformance.observations import NO_CODE
from tests.conformance.outcomes import Outcome, outcomes, was_late
from tests.conformance.peers import Peers
from tests.conformance.runner import AT_ONCE, Run, alone
from tests.conformance.stacks import Bare, Idle, Ours

FEW = 8
STACKS: dict[str, Any] = {
    "bare": Bare,
    "idle": Idle,
    "ours": Ours,
    "contrib": lambda: Peers("contrib"),
    "py-grpc-prometheus": lambda: Peers("py-grpc-prometheus"),
    "both peers": lambda: Peers("both peers"),
}


class ContextLines(logging.Handler):
    """Counts what OpenTelemetry's context complains of."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def record(name: str) -> dict[str, Any]:
    """The observation of each case as text, and the answers to the promises.

    What becomes of a dropped call hangs on when garbage is collected: such cases run a few at a time.
    """
    lines = ContextLines()
    logging.getLogger("opentelemetry.context").addHandler(lines)
    logging.getLogger().addHandler(logging.NullHandler())
    dropped = [case for case in CASES if "dropped" in case.name]
    others = [case for case in CASES if "dropped" not in case.name]
    first, second = _part(STACKS[name](), dropped, FEW), _part(STACKS[name](), others, AT_ONCE)
    return {
        "seen": first["seen"] | second["seen"],
        "kept": first["kept"] | second["kept"],
        "lines": lines.count,
        "labels": first["labels"] + second["labels"],
        "second tries": first["second tries"] + second["second tries"],
    }


def _part(stack: Any, cases: list[Case], at_once: int) -> dict[str, Any]:
    run = Run(stack, cases, at_once)
    run.wait()
    found = outcomes(run, stack) if hasattr(stack, "recorded") else {}
    second_tries = [name for name in found if isinstance(stack, Ours) and _is_late(found[name])]
    for name in second_tries:
        with alone(Ours(), found[name].case) as again:
            found |= outcomes(again, again.stack)
    return {
        "seen": {case.name: _seen(run.observation(case)) for case in cases},
        "kept": {case: answers(outcome) for case, outcome in found.items()},
        "labels": sum("Unknown" in method for method in _labels(stack)),
        "second tries": second_tries,
    }


def _is_late(outcome: Outcome) -> bool:
    return was_late(outcome) and not all(answers(outcome).values())


def blind(saw: Any) -> Any:
    """What a client saw, but for what it can only see of a whole call object."""
    if not isinstance(saw, dict):
        return saw
    whole = {"code", "details", "initial", "trailing", "call"}
    return {key: blind(value) for key, value in saw.items() if key not in whole}


def _seen(observation: dict[str, Any]) -> dict[str, str]:
    """What was seen, as text to compare; "blind" leaves out what only a whole call object shows."""
    client, handler = observation["client"], observation["handler"]
    whole = repr((client, handler))
    return {
        "whole": whole,
        "blind": repr((blind(client), handler)),
        "no code": NO_CODE if NO_CODE in whole else "",
    }


def _labels(stack: Any) -> list[str]:
    """The methods that the server's metrics have labels for."""
    recorded = stack.recorded("server") if hasattr(stack, "recorded") else {}
    return [method for method, facts in recorded.items() if facts.started]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(record(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # a peer may have left threads that never end
