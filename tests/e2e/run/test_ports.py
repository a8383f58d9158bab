import socket

import pytest

from tools.run.failure import PairError
from tools.run.ports import Port, require_free


def test_a_port_in_use_is_named_with_its_variable() -> None:
    """The message says which port, which variable, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(PairError) as raised:
            require_free([Port("SHOP_PORT", "127.0.0.1", number)])
    assert str(raised.value) == (
        f"SHOP_PORT: cannot listen on port {number} of 127.0.0.1 (Address already in use); "
        "stop what uses it, or set SHOP_PORT to a free port"
    )


def test_a_port_that_others_would_share_is_in_use() -> None:
    """gRPC servers share ports by SO_REUSEPORT; a second pair must not join the first one's."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = Port("SHOP_PORT", "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(PairError, match="in use"):
            require_free([port])


def test_one_port_for_two_is_an_error(ports: dict[str, str]) -> None:
    """Two variables cannot name the same port."""
    number = int(ports["MARKETPLACE_PORT"])
    with pytest.raises(PairError, match="B: cannot listen"):
        require_free([Port("A", "127.0.0.1", number), Port("B", "127.0.0.1", number)])


def test_port_0_is_refused() -> None:
    """The pair prints and checks its ports, so each must be known before the start."""
    with pytest.raises(PairError, match="SHOP_PORT: 0 is not allowed"):
        require_free([Port("SHOP_PORT", "127.0.0.1", 0)])


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1:1"), ("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1"), ("::1", "[::1]:1")],
)
def test_the_address_is_one_to_call(host: str, address: str) -> None:
    """Where a service listens on every address, loopback is the one to print."""
    assert Port("SHOP_PORT", host, 1).address == address
