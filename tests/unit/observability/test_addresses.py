"""Addresses in all of gRPC's forms become attributes."""

from typing import Any

import pytest

from observability.grpc.target import address_of
from observability.signals.tracing import peer_attributes


@pytest.mark.parametrize(
    ("peer", "attributes"),
    [
        ("ipv4:127.0.0.1:80", {"network.peer.address": "127.0.0.1", "network.peer.port": 80}),
        ("ipv6:%5B::1%5D:80", {"network.peer.address": "::1", "network.peer.port": 80}),
        ("unix:/tmp/socket", {"network.peer.address": "/tmp/socket", "network.transport": "unix"}),
        ("unix:", {}),
        ("odd", {}),
    ],
)
def test_peers_of_every_scheme(peer: str, attributes: dict[str, Any]) -> None:
    """A peer's address is shown whatever its scheme is."""
    assert peer_attributes(peer) == attributes


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("host:50051", ("host", 50051)),
        ("dns:///host:1", ("host", 1)),
        ("dns:host:1", ("host", 1)),
        ("dns://127.0.0.1/host:1", ("host", 1)),
        ("[::1]:2", ("::1", 2)),
        ("ipv4:127.0.0.1:3", ("127.0.0.1", 3)),
        ("ipv6:[::1]:4", ("::1", 4)),
        ("ipv4:127.0.0.1:3,127.0.0.2:3", ("127.0.0.1:3,127.0.0.2:3", None)),
        ("unix:relative/socket", ("relative/socket", None)),
        ("unix:///run/socket:1", ("/run/socket:1", None)),
        ("host", ("host", None)),
        ("", ("", None)),
    ],
)
def test_targets(target: str, address: tuple[str, int | None]) -> None:
    """A target in gRPC's forms gives the server's address and port."""
    assert address_of(target) == address
