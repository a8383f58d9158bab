"""CPU time of the shop's home page, with telemetry and without, in one process and in turns.

Run: python -m benchmarks.cost.page TARGET_OF_RECOMMENDATIONS LOG (prints microseconds of each round, as JSON)
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

from benchmarks.cost.unobserved import Unobserved
from observability import Telemetry
from services.marketplace.app import create_app
from services.marketplace.config import Settings
from services.marketplace.recommendations import Recommendations
from services.marketplace.shop import Shop
from services.marketplace.store import Store
from services.settings import BOOKS

ROUNDS, PAGES, WARM_UP = 15, 200, 200


def main(target: str, log: str) -> None:
    """Measure each in turn, its spans delivered before the clock is read."""
    with Path(log).open("w") as stream:
        telemetry = Telemetry("page", log_stream=stream)
        unobserved: Any = Unobserved()
        apps = {"without": _client(target, unobserved), "with": _client(target, telemetry)}
        gc.freeze()
        costs_us: dict[str, list[float]] = {name: [] for name in apps}
        for client in apps.values():
            _cost_us(client, telemetry, WARM_UP)
        for _ in range(ROUNDS):
            for name, client in apps.items():
                costs_us[name].append(_cost_us(client, telemetry, PAGES))
        telemetry.shutdown()
    print(json.dumps(costs_us))


def _client(target: str, telemetry: Any) -> Any:
    host, _, port = target.rpartition(":")
    settings = Settings(database_url="sqlite://", recommendations_host=host, recommendations_port=int(port))
    store = Store("sqlite://", BOOKS)
    if isinstance(telemetry, Telemetry):
        SQLAlchemyInstrumentor().instrument(engine=store.engine, tracer_provider=telemetry.tracer_provider)
    return create_app(Shop(settings, store, Recommendations(settings, telemetry)), telemetry).test_client()


def _cost_us(client: Any, telemetry: Telemetry, pages: int) -> float:
    started = time.process_time()
    for _ in range(pages):
        page = client.get("/")
        if page.status != "200 OK":
            raise RuntimeError(f"the page is {page.status}")
    telemetry.force_flush(30)
    return (time.process_time() - started) / pages * 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
