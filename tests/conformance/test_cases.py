"""With this package or without, client and handler see the same; and what it records is what happened."""

import logging
import re
from collections.abc import Iterator
from itertools import filterfalse
from typing import Any

import pytest

from tests.conformance.case import HAS_IPV6, Case
from tests.conformance.checks import answers, asked, promises
from tests.conformance.conftest import AGAIN
from tests.conformance.matrix import CASES
from tests.conformance.outcomes import Outcome, outcomes, was_late
from tests.conformance.report import PAGE, TRANSPARENCY, labels, reasons
from tests.conformance.runner import Run, alone
from tests.conformance.stacks import Bare, Idle, Ours

# grpcio's own call objects for intercepted calls differ from bare ones.
OF_GRPCIO = ("aio client/time remaining/", "aio client/both styles/")
# What only some outcomes can show: a call that arrives, a client that stays, a generator that is closed.
CONDITIONAL = {
    "client: messages sent are counted as the application gave them",
    "client: one duration: span, histogram, log line",
    "server: messages sent are counted as the application gave them",
    "server: one duration: span, histogram, log line",
    "the server's span is the client span's child",
    "the server's span is current in the handler, from start to end",
    "the server's span is current in a generator's clean-up, when gRPC closes it",
}


def of_grpcio(case: Case) -> bool:
    """Whether grpcio's own machinery for interceptors shows."""
    return case.name.startswith(OF_GRPCIO)


def wanted(request: pytest.FixtureRequest) -> list[Case]:
    """The cases that this session's tests ask for; first those that wait longest, the last of the matrix."""
    names = {
        item.callspec.params["case"].name  # type: ignore[attr-defined]
        for item in request.session.items
        if "case" in getattr(getattr(item, "callspec", None), "params", ())
    }
    return [case for case in reversed(CASES) if case.name in names]


# A deadline that passes before its call arrives, and what an asyncio stream gets of gRPC now and then.
RACES = re.compile("DEADLINE_EXCEEDED|Internal error from Core")


@pytest.fixture(scope="module")
def bare(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The cases on grpcio alone."""
    run = Run(Bare(), wanted(request))
    yield run
    run.close()


@pytest.fixture(scope="module")
def ours(request: pytest.FixtureRequest, bare: Run) -> Iterator[Run]:
    """The cases on this package; after bare grpcio, so that neither slows the other."""
    bare.wait()
    run = Run(Ours(), wanted(request))
    yield run
    run.close()


@pytest.fixture(scope="module")
def idle(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The cases in which grpcio's own machinery for interceptors shows, with interceptors that do nothing."""
    run = Run(Idle(), [*filter(of_grpcio, wanted(request))])
    yield run
    run.close()


@pytest.fixture(scope="module")
def found(ours: Run) -> dict[str, Outcome]:
    """The outcome of each case on this package."""
    return outcomes(ours, ours.stack)


@pytest.fixture(scope="module", autouse=True)
def context_lines() -> Iterator[list[str]]:
    """What OpenTelemetry's context says in the log, of all stacks."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("opentelemetry.context")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize("case", [*filterfalse(of_grpcio, CASES)], ids=lambda case: case.name)
def test_transparent(case: Case, bare: Run, ours: Run, record_property: Any) -> None:
    """What client and handler see of the case on ours is what they see on bare grpcio."""
    seen, expected = ours.observation(case), bare.observation(case)
    if seen != expected and RACES.search(repr((case.status, seen, expected))):
        record_property(AGAIN, case.name)
        with alone(Ours(), case) as ours_alone, alone(Bare(), case) as bare_alone:
            seen, expected = ours_alone.observation(case), bare_alone.observation(case)
    assert seen == expected


@pytest.mark.parametrize("case", [*filter(of_grpcio, CASES)], ids=lambda case: case.name)
def test_no_more_than_any_interceptor(case: Case, bare: Run, ours: Run, idle: Run) -> None:
    """Where grpcio's own call objects for intercepted calls differ from bare ones, ours add nothing to it."""
    assert ours.observation(case) == idle.observation(case) != bare.observation(case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_true(case: Case, found: dict[str, Outcome], record_property: Any) -> None:
    """Both sides' spans, metrics and log lines keep every promise that the case asserts."""
    outcome = found[case.name]
    if not all(answers(outcome).values()) and was_late(outcome):
        record_property(AGAIN, case.name)
        with alone(Ours(), case) as run:
            outcome = outcomes(run, run.stack)[case.name]
    broken = [promise for promise, kept in answers(outcome).items() if not kept]
    assert not broken, (outcome.client_saw, outcome.seen.events, outcome.server, outcome.client)


def test_a_case_without_a_reason_asserts_everything(found: dict[str, Outcome]) -> None:
    """Every promise is asked of it, but for those that its outcome cannot show."""
    for outcome in found.values():
        if outcome.case.reason is None:
            assert {*promises()} - asked(outcome).keys() <= CONDITIONAL, outcome.case.name


def test_telemetry_never_fails(found: dict[str, Outcome], ours: Run) -> None:
    """Whatever a handler or a caller does, no step of telemetry raises."""
    assert found
    stack: Any = ours.stack
    for telemetry in (*stack.servers, *stack.clients):
        assert not {
            name: count
            for (name, _), count in telemetry.tally.counts().items()
            if count and "failures" in name
        }


def test_no_context_is_lost(found: dict[str, Outcome], context_lines: list[str]) -> None:
    """No context token is given back where it was not taken: OpenTelemetry never says "Failed to detach"."""
    assert found
    assert context_lines == []


def test_the_page_is_true() -> None:
    """docs/conformance.md has a row for each promise, all kept by ours, and counts the reasons as they are."""
    page = PAGE.read_text()
    cells = {
        row.split(" | ")[0].removeprefix("| "): row.split(" | ")[1]
        for row in page.splitlines()
        if " | " in row
    }
    assert [text for text in cells if text.startswith(("transparent", "true", "bounded"))] == labels()
    for text in labels():
        kept, asked = cells[text].strip("*").split("/")
        assert kept == asked, text
    if HAS_IPV6:
        assert reasons() in page
        for text, belongs in TRANSPARENCY.items():
            assert (
                cells[f"transparent: {text}"] == f"**{sum(map(belongs, CASES))}/{sum(map(belongs, CASES))}**"
            )
