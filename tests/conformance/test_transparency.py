"""With the interceptors or without, client and handler see the same."""

from typing import Any

import pytest

from tests.conformance.all_cases import CASES
from tests.conformance.cases import Case
from tests.conformance.conftest import OF_GRPCIO, SECOND_TRIES
from tests.conformance.run import Run
from tests.conformance.stacks import Bare, Ours
from tests.conformance.world import Stack

ALIKE = [case for case in CASES if not case.name.startswith(OF_GRPCIO)]
GRPCIO = [case for case in CASES if case.name.startswith(OF_GRPCIO)]


@pytest.mark.parametrize("case", ALIKE, ids=lambda case: case.name)
def test_transparent(case: Case, bare: Run, ours: Run) -> None:
    """What client and handler see of the case on ours is what they see on bare grpcio."""
    if ours.observation(case) != bare.observation(case):
        SECOND_TRIES.append(case.name)
        assert alone(Ours(), case) == alone(Bare(), case)


def alone(stack: Stack, case: Case) -> dict[str, Any]:
    """The observation of the case with the machine to itself.

    Some depend on how soon garbage is collected and threads get their turn; what still differs here is ours.
    """
    run = Run(stack, [case])
    try:
        return run.observation(case)
    finally:
        run.close()


@pytest.mark.parametrize("case", GRPCIO, ids=lambda case: case.name)
def test_no_more_than_any_interceptor(case: Case, bare: Run, ours: Run, idle: Run) -> None:
    """Where grpcio's own call objects for intercepted calls differ from bare ones, ours add nothing to it."""
    assert ours.observation(case) == idle.observation(case) != bare.observation(case)
