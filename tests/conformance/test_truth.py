"""What telemetry tells of a call is what happened."""

from typing import Any

import pytest

from tests.conformance.all_cases import CASES
from tests.conformance.cases import Case
from tests.conformance.conftest import SECOND_TRIES
from tests.conformance.judging import outcomes
from tests.conformance.promises import Outcome, ask
from tests.conformance.run import Run
from tests.conformance.stacks import Ours


@pytest.mark.parametrize("case", [case for case in CASES if case.calls], ids=lambda case: case.name)
def test_true(case: Case, told: dict[str, Outcome]) -> None:
    """Both sides' spans, metrics and log lines keep every promise that the case can show."""
    outcome = told[case.name]
    if broken(outcome) and was_late(outcome):
        SECOND_TRIES.append(case.name)
        outcome = alone(case)
    assert not broken(outcome), (outcome.client_saw, outcome.seen.events, outcome.server, outcome.client)


def broken(outcome: Outcome) -> list[str]:
    """The promises that it does not keep."""
    return [promise for promise, kept in ask(outcome).items() if not kept]


def was_late(outcome: Outcome) -> bool:
    """Whether a deadline passed, for the client or for what either side told, or the call did not arrive soon."""
    told = {outcome.status, *outcome.server.handled_once, *outcome.client.handled_once}
    return "DEADLINE_EXCEEDED" in told or (outcome.case.entered and not outcome.seen.entered.is_set())


def alone(case: Case) -> Outcome:
    """The outcome of the case with the machine to itself.

    On a busy one, a deadline may pass before the server hears of the call, or long before the server's own.
    """
    stack = Ours()
    run = Run(stack, [case])
    try:
        return outcomes(run, stack)[case.name]
    finally:
        run.close()


def test_telemetry_never_fails(told: dict[str, Outcome], ours: Run) -> None:
    """Whatever a handler or a caller does, no step of telemetry raises."""
    assert told
    stack: Any = ours.stack
    for telemetry in (*stack.servers, *stack.clients):
        assert not {
            name: count
            for (name, _), count in telemetry.tally.counts().items()
            if count and "failures" in name
        }


def test_no_context_is_lost(told: dict[str, Outcome], context_lines: list[str]) -> None:
    """No context token is given back where it was not taken: OpenTelemetry never says "Failed to detach"."""
    assert told
    assert context_lines == []
