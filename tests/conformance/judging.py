"""Puts together what was seen and what was told of the cases of a run."""

import time
from typing import Any

from tests.conformance.promises import Outcome
from tests.conformance.run import Run
from tests.conformance.told import Side, Told

SETTLING_S = 5.0


def outcomes(run: Run, stack: Any) -> dict[str, Outcome]:
    """The outcome of each case, once all have been run and telemetry has had time to tell of them."""
    run.wait()
    server, client = _settled(stack, {case.method[1:] for case in run.cases if case.calls})
    return {
        case.name: Outcome(
            case,
            run.observation(case)["client"],
            run.methods.seen[case.name],
            server.get(case.method[1:], Told()),
            client.get(case.method[1:], Told()),
            run.client_spans.get(case.name, []),
            {
                "server": stack.signals(case.flavour),
                "client": stack.signals(case.client),
            },
        )
        for case in run.cases
    }


def _settled(stack: Any, methods: set[str]) -> tuple[Side, Side]:
    """Both sides' facts, once all calls that were started have been handled, or SETTLING_S are over."""
    end = time.monotonic() + SETTLING_S
    while True:
        sides = stack.told("server"), stack.told("client")
        if all(_is_over(side, methods) for side in sides) or time.monotonic() > end:
            return sides
        time.sleep(0.1)


def _is_over(side: Side, methods: set[str]) -> bool:
    return all(
        told.started == sum(told.handled.values()) and not told.in_flight
        for method, told in side.items()
        if method in methods
    )
