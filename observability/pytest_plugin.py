"""The pytest plugin of this package; pytest loads it where the package is installed."""

from collections.abc import Iterator

import pytest

from observability.testing import MemoryTelemetry


@pytest.fixture
def telemetry() -> Iterator[MemoryTelemetry]:
    """Telemetry in memory: give the code under test its interceptors, then ask what it recorded."""
    with MemoryTelemetry() as made:
        yield made
