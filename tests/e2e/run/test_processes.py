import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from observability.testing import eventually
from tools.run.processes import PairError, Process, StopRequests, require_alive, stop_all, wait_until_ready


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = Process("sleeper", ["sleep", "60"], {}, tmp_path)
    yield process
    process.kill()


def test_a_service_that_is_never_ready_is_named_with_its_log(sleeper: Process) -> None:
    """The start is bounded, and the message says where to look."""
    with pytest.raises(PairError, match=r"sleeper was not ready within 0 s; its log is .*/sleeper\.log"):
        wait_until_ready({sleeper: lambda: False}, StopRequests(), within_s=0)


def test_a_stop_ends_the_wait(sleeper: Process) -> None:
    """A request to stop does not wait for a service that will never be ready."""
    stop = StopRequests()
    stop.requested = True
    wait_until_ready({sleeper: lambda: False}, stop)


def test_last_words_are_safe_to_print(tmp_path: Path) -> None:
    """What a dead service said last is shown without characters that steer the terminal."""
    program = r"import sys; sys.exit('first line\nwrong: \x1b[31mred')"
    process = Process("teller", [sys.executable, "-c", program], {}, tmp_path)
    with pytest.raises(PairError) as raised:
        wait_until_ready({process: lambda: False}, StopRequests())
    assert str(raised.value) == "teller ended with exit code 1: wrong: \ufffd[31mred"


def test_the_end_of_a_service_after_the_stop_is_no_failure(sleeper: Process) -> None:
    """A service that ends because it was asked to is not reported as dead."""
    stop = StopRequests()
    stop.requested = True
    assert stop_all([sleeper], within_s=10, at_once=lambda: False) == []
    require_alive([sleeper], stop)


def test_what_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    """The bound holds for a process that ignores SIGTERM."""
    process = Process("deaf", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], {}, tmp_path)
    eventually(lambda: process.log.read_text() == "up\n")
    assert stop_all([process], within_s=0.1, at_once=lambda: False) == [process]
    assert not process.alive
