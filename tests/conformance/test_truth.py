"""What telemetry tells of a call is what happened."""

import pytest

from tests.conformance.all_cases import CASES
from tests.conformance.cases import Case
from tests.conformance.promises import Outcome, ask


@pytest.mark.parametrize("case", [case for case in CASES if case.calls], ids=lambda case: case.name)
def test_true(case: Case, told: dict[str, Outcome]) -> None:
    """Both sides' spans, metrics and log lines keep every promise that the case can show."""
    outcome = told[case.name]
    broken = [promise for promise, kept in ask(outcome).items() if not kept]
    assert not broken, f"wire: {outcome.status}"


def test_no_context_is_lost(told: dict[str, Outcome], context_lines: list[str]) -> None:
    """No context token is given back where it was not taken: OpenTelemetry never says "Failed to detach"."""
    assert told
    assert context_lines == []
