import socket
from collections.abc import Callable, Iterator

import pytest

from tools.run.ports import Port
from tools.run.readiness import listens, serves_grpc, serves_http


@pytest.fixture
def mute() -> Iterator[Port]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Port("MUTE_PORT", "127.0.0.1", server.getsockname()[1])


def test_a_mute_port_listens(mute: Port) -> None:
    """Over TLS, taking connections is all that is asked of a service."""
    assert listens(mute)


@pytest.mark.parametrize("is_ready", [serves_grpc, serves_http])
def test_a_mute_service_is_not_ready(mute: Port, is_ready: Callable[[Port], bool]) -> None:
    """A check that gets no answer comes back in time, with no."""
    assert not is_ready(mute)


@pytest.mark.parametrize("is_ready", [listens, serves_grpc, serves_http])
def test_a_closed_port_is_not_ready(ports: dict[str, str], is_ready: Callable[[Port], bool]) -> None:
    """Before a service listens it is not ready, and that is no error."""
    assert not is_ready(Port("CLOSED_PORT", "127.0.0.1", int(ports["MARKETPLACE_PORT"])))
