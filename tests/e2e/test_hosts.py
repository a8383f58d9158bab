"""Two instances of recommendations behind one name: the shop finds a new one, and leaves one that is gone."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from observability.testing import eventually
from tests.hosts import CAN_MAKE, LOOPBACK, Namespace
from tests.ill import World, world

pytestmark = pytest.mark.full


@contextmanager
def frozen(directory: Path) -> Iterator[World]:
    """Two instances, of which one stands still: its host acknowledges what the shop sends."""
    with world(directory, LOOPBACK, RECOMMENDATIONS_KEEP_S="0") as well:
        second = well.start_second()
        second.process.send_signal(signal.SIGSTOP)
        try:
            yield well
        finally:
            second.process.send_signal(signal.SIGCONT)


@contextmanager
def dark(directory: Path) -> Iterator[World]:
    """Two instances, of which one is on a host from which nothing comes any more."""
    if not CAN_MAKE:
        pytest.skip("needs root and iproute2, for a network namespace")
    with closing(Namespace()) as there, world(directory, there.host, RECOMMENDATIONS_KEEP_S="0") as well:
        well.start_second()
        with there.dark():
            yield well


@pytest.mark.parametrize("gone", [frozen, dark])
def test_a_host_that_is_gone_is_left(
    gone: Callable[[Path], AbstractContextManager[World]], tmp_path: Path
) -> None:
    """The shop finds the new instance by its name; when nothing comes from there, it calls the other alone."""
    with gone(tmp_path) as well:
        assert well.pair.get("/")[0] == 200
        eventually(lambda: well.recommends(30), 60)
