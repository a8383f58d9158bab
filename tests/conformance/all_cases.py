"""The whole table."""

from tests.conformance import aio_clients, option_clients, stream_clients  # noqa: F401  (they fill the table)
from tests.conformance.cases import Case
from tests.conformance.clients import client_cases
from tests.conformance.server_cases import server_cases

CASES: tuple[Case, ...] = (*server_cases(), *client_cases())
