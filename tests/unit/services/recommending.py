"""The real recommendations, in the test's process."""

from observability.testing import MemoryTelemetry
from services.faults.switch import Switch
from services.recommendations import RecommendationService
from services.recommendations.config import Settings
from services.recommendations.server import Server


class Running:
    """A server that takes calls until it is closed; its port, telemetry and faults are public."""

    def __init__(self, settings: Settings) -> None:
        self.telemetry = MemoryTelemetry("recommendations")
        self.switch = Switch("recommendations")
        self._server = Server(settings, self.telemetry, RecommendationService(), self.switch)
        self._server.start()
        self.port = self._server.port

    def close(self) -> None:
        self._server.stop()
