"""What stands in for Telemetry in a service that is not observed."""

from typing import Any

from prometheus_client import CollectorRegistry


class Unobserved:
    """Has what the services use of Telemetry, and does nothing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def server_interceptors(self, workers: int = 0) -> list[Any]:  # noqa: ARG002
        """None."""
        return []

    def client_interceptors(self, target: str) -> list[Any]:  # noqa: ARG002
        """None."""
        return []

    def declare(self, path: str, *codes: str, side: str = "server") -> None:
        """Do nothing."""

    def instrument_flask(self, app: Any) -> None:
        """Do nothing."""
