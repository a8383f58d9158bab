"""What stands in for Telemetry in a service that is not observed."""

from typing import Any

from prometheus_client import CollectorRegistry

from observability.grpc.deadline import DeadlineInterceptor


class Unobserved:
    """Has what the services use of Telemetry, and does nothing; calls get their deadline all the same."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def server_interceptors(self, workers: int = 0) -> list[Any]:  # noqa: ARG002
        """None."""
        return []

    def client_interceptors(self, target: str, timeout_s: float) -> list[Any]:  # noqa: ARG002
        """The deadline."""
        return [DeadlineInterceptor(timeout_s)]

    def declare(self, path: str, *codes: str, side: str = "server") -> None:
        """Do nothing."""

    def instrument_flask(self, app: Any) -> None:
        """Do nothing."""
