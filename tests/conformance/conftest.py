"""Marks what `make test` leaves out, and reports the cases that were run again."""

import logging
from collections.abc import Iterator

import pytest

from tests.conformance.case import Case
from tests.conformance.compositions import Composition

MAIN_FORMS = ("function", "generator")
AGAIN = "run again"


@pytest.fixture(scope="package", autouse=True)
def kept_lines() -> Iterator[None]:
    """Nobody keeps gRPC's log lines: with a traceback they keep what a handler left, and so change its end."""
    logger = logging.getLogger("grpc")
    logger.propagate = False
    logger.addHandler(quiet := logging.NullHandler())
    yield
    logger.removeHandler(quiet)
    logger.propagate = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases that `make test` leaves out.

    Some cases leave coroutines and generators behind, on bare grpcio too: Python's complaints are theirs.
    """
    for item in items:
        if "tests/conformance" not in item.nodeid:
            continue
        item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
        item.add_marker(pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"))
        params = getattr(getattr(item, "callspec", None), "params", {})
        if not all(is_core(params[name]) for name in ("case", "composition") if name in params):
            item.add_marker(pytest.mark.full)


def is_core(case: Case | Composition) -> bool:
    """Whether the case has the usual form of handler, or the client's own kind of server; and whether ours have
    the other's interceptor on both of their sides.
    """
    if isinstance(case, Composition):
        return case.position == case.other.positions[-1]
    group, _, form, *_ = case.name.split("/")
    return case.client == case.flavour if group.endswith("client") else form in MAIN_FORMS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report the cases that a test ran again, alone, before it judged them."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    names = sorted(
        {str(value) for report in reports for key, value in report.user_properties if key == AGAIN}
    )
    if names:
        terminalreporter.write_line(f"conformance: {len(names)} cases were run again: {'; '.join(names)}")
