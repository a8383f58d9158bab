"""Pages of /books with a million books against nine: p95 of each, their ratio, and the largest page.

Run: python -m benchmarks.pages
"""

import gc
import io
import tempfile
import time
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from benchmarks.feeds import write_feed
from observability import Telemetry
from services.marketplace.app import create_app
from services.marketplace.config import Settings
from services.marketplace.recommendations import Recommendations
from services.marketplace.shop import Shop
from services.marketplace.store import Store
from services.settings import BOOKS

MILLION = 1_000_000
REQUESTS = 400
QUERIES = {
    "first page": "",
    "deep page": "?after=700000",
    "category": "?category=self_help",
    "common word": "?q=the",
    "one letter": "?q=s",
    "two words": "?q=murder+night",
    "search and category": "?q=the&category=self_help",
}


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as directory:
        feed = write_feed(Path(directory) / "million.csv", MILLION)
        started = time.perf_counter()
        million = _client(f"sqlite:///{directory}/million.sqlite3", feed)
        print(f"load of a million books into the database: {time.perf_counter() - started:.1f} s")
        nine = _client(f"sqlite:///{directory}/nine.sqlite3", BOOKS)
        gc.freeze()
        for name, query in QUERIES.items():
            _compare(name, f"/books{query}", million, nine)


def _client(url: str, feed: Path) -> Any:
    settings = Settings(database_url=url)
    telemetry = Telemetry(
        "pages", tracer_provider=TracerProvider(), registry=CollectorRegistry(), log_stream=io.StringIO()
    )
    shop = Shop(settings, Store(url, feed), Recommendations(settings, telemetry))
    return create_app(shop, telemetry).test_client()


def _compare(name: str, path: str, million: Any, nine: Any) -> None:
    times: list[tuple[float, float]] = [
        (_time_ms(million, path), _time_ms(nine, path)) for _ in range(REQUESTS)
    ]
    large, small = (sorted(column)[int(REQUESTS * 0.95)] for column in zip(*times, strict=True))
    size = len(million.get(path).data) / 1024
    print(f"{name:20} p95 {large:.2f} ms with a million, {small:.2f} ms with nine", end="; ")
    print(f"ratio {large / small:.2f}, {size:.1f} KiB")


def _time_ms(client: Any, path: str) -> float:
    started = time.perf_counter()
    client.get(path)
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
