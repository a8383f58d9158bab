import socket
from collections.abc import Callable, Iterator

import pytest

from services.ports import PortTaken
from tools.ports import Port, listens, require_free, serves_grpc, serves_http


def test_a_port_in_use_is_named_with_its_variable() -> None:
    """The message says which port, which variable, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(PortTaken) as raised:
            require_free(Port("SHOP_PORT", "127.0.0.1", number))
    assert str(raised.value) == (
        f"SHOP_PORT: cannot listen on port {number} of 127.0.0.1 (Address already in use): "
        "stop what uses it, or set SHOP_PORT to a free port"
    )


def test_a_port_that_others_would_share_is_in_use() -> None:
    """gRPC servers share ports by SO_REUSEPORT; a second pair must not join the first one's."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = Port("SHOP_PORT", "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(PortTaken, match="in use"):
            require_free(port)


def test_one_port_for_two_is_an_error(ports: dict[str, str]) -> None:
    """Two variables cannot name the same port."""
    number = int(ports["MARKETPLACE_PORT"])
    with pytest.raises(PortTaken, match="B must not be the port of A"):
        require_free(Port("A", "127.0.0.1", number), Port("B", "127.0.0.1", number))


def test_port_0_is_refused() -> None:
    """The pair prints and checks its ports, so each must be known before the start."""
    with pytest.raises(PortTaken, match="SHOP_PORT must be a port from 1 to 65535, got 0"):
        require_free(Port("SHOP_PORT", "127.0.0.1", 0))


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1:1"), ("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1"), ("::1", "[::1]:1")],
)
def test_the_address_is_one_to_call(host: str, address: str) -> None:
    """Where a service listens on every address, loopback is the one to print."""
    assert Port("SHOP_PORT", host, 1).address == address


@pytest.fixture
def mute() -> Iterator[Port]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Port("MUTE_PORT", "127.0.0.1", server.getsockname()[1])


def test_a_mute_port_listens(mute: Port) -> None:
    """It is in use, whatever it does."""
    assert listens(mute)


@pytest.mark.parametrize("is_ready", [serves_grpc, serves_http])
def test_a_mute_service_is_not_ready(mute: Port, is_ready: Callable[[Port], bool]) -> None:
    """A check that gets no answer comes back in time, with no."""
    assert not is_ready(mute)


@pytest.mark.parametrize("is_ready", [listens, serves_grpc, serves_http])
def test_a_closed_port_is_not_ready(ports: dict[str, str], is_ready: Callable[[Port], bool]) -> None:
    """Before a service listens it is not ready, and that is no error."""
    assert not is_ready(Port("CLOSED_PORT", "127.0.0.1", int(ports["MARKETPLACE_PORT"])))
