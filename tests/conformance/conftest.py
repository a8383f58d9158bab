"""The cases are run once on each stack, several at a time; the tests look at what came of them."""

import logging
from collections.abc import Iterator

import pytest

from tests.conformance.all_cases import CASES
from tests.conformance.cases import Case
from tests.conformance.judging import outcomes
from tests.conformance.promises import Outcome
from tests.conformance.run import Run
from tests.conformance.stacks import Bare, Idle, Ours

MAIN_FORMS = ("function", "generator")
SECOND_TRIES: list[str] = []  # on a busy machine, a deadline may pass before the server hears of a call
OF_GRPCIO = ("aio client/time remaining/", "aio client/both styles/")


def wanted(request: pytest.FixtureRequest) -> list[Case]:
    """The cases that this session's tests ask for."""
    names = {
        item.callspec.params["case"].name  # type: ignore[attr-defined]
        for item in request.session.items
        if "case" in getattr(getattr(item, "callspec", None), "params", ())
    }
    return [case for case in CASES if case.name in names]


@pytest.fixture(scope="package")
def bare(request: pytest.FixtureRequest, kept_lines: None) -> Iterator[Run]:
    """The cases on grpcio alone."""
    run = Run(Bare(), wanted(request))
    yield run
    run.close()


@pytest.fixture(scope="package")
def ours(request: pytest.FixtureRequest, bare: Run) -> Iterator[Run]:
    """The cases on this package; after bare grpcio, so that neither slows the other."""
    bare.wait()
    run = Run(Ours(), wanted(request))
    yield run
    run.close()


@pytest.fixture(scope="package")
def idle(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The cases in which grpcio's own machinery for interceptors shows, with interceptors that do nothing."""
    run = Run(Idle(), [case for case in wanted(request) if case.name.startswith(OF_GRPCIO)])
    yield run
    run.close()


@pytest.fixture(scope="package", autouse=True)
def context_lines() -> Iterator[list[str]]:
    """What OpenTelemetry's context says in the log, of all stacks."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("opentelemetry.context")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture(scope="package", autouse=True)
def kept_lines() -> Iterator[None]:
    """Nobody keeps gRPC's log lines: with a traceback they keep what a handler left, and so change its end."""
    logger = logging.getLogger("grpc")
    logger.propagate = False
    logger.addHandler(quiet := logging.NullHandler())
    yield
    logger.removeHandler(quiet)
    logger.propagate = True


@pytest.fixture(scope="package")
def told(ours: Run) -> dict[str, Outcome]:
    """What this package told of each case."""
    return outcomes(ours, ours.stack)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases that `make test` leaves out.

    Some cases leave coroutines and generators behind, on bare grpcio too: Python's complaints are theirs.
    """
    for item in items:
        if "tests/conformance" not in item.nodeid:
            continue
        item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
        item.add_marker(pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"))
        case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
        if case is not None and not is_core(case):
            item.add_marker(pytest.mark.full)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report the cases that were run again, alone, before they were judged."""
    if SECOND_TRIES:
        names = "; ".join(sorted(SECOND_TRIES))
        terminalreporter.write_line(
            f"conformance: {len(SECOND_TRIES)} cases were tried a second time: {names}"
        )


def is_core(case: Case) -> bool:
    """Whether the case has the usual form of handler, or the client's own kind of server."""
    group, _, form, *_ = case.name.split("/")
    return case.client == case.flavour if group.endswith("client") else form in MAIN_FORMS
