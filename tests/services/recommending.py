"""The real recommendations, on a thread of the test's process."""

import asyncio
import threading

from observability.testing import MemoryTelemetry
from services.recommendations import RecommendationService
from services.recommendations.config import Settings
from services.recommendations.server import Server


class Running:
    """A server that takes calls until it is closed; port and telemetry can be asked."""

    def __init__(self, settings: Settings) -> None:
        self.telemetry = MemoryTelemetry("recommendations")
        self._settings, self._ready = settings, threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        self._ready.wait(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = Server(self._settings, self.telemetry, RecommendationService())
        await server.start()
        self.port = server.port
        self._ready.set()
        await self._stop.wait()
        await server.stop()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
