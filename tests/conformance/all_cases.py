"""The whole table."""

from tests.conformance import aio_clients, option_clients, stream_clients  # noqa: F401  (they fill the table)
from tests.conformance.cases import HAS_IPV6, Case
from tests.conformance.clients import client_cases
from tests.conformance.server_cases import server_cases

CASES: tuple[Case, ...] = tuple(
    case for case in (*server_cases(), *client_cases()) if HAS_IPV6 or case.transport != "ipv6"
)
