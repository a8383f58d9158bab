"""A feed of a million books: how long it takes to load, what it weighs, and what a call costs against nine.

Run: python -m benchmarks.catalogue
"""

import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from benchmarks.feeds import write_feed
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import (
    RecommendationsStub,
    add_RecommendationsServicer_to_server,
)
from services.feed import read_books
from services.recommendations import RecommendationService
from services.recommendations.catalogue import Catalogue

MILLION = 1_000_000
ROUNDS, CALLS = 31, 200


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as directory:
        feed = write_feed(Path(directory) / "million.csv", MILLION)
        started = time.perf_counter()
        million = RecommendationService(Catalogue(read_books(feed)))
        print(f"load of a million books: {time.perf_counter() - started:.2f} s")
    gc.freeze()
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    nine = RecommendationService()
    with _served(million) as to_million, _served(nine) as to_nine:
        pairs = [(_cost_us(to_million), _cost_us(to_nine)) for _ in range(ROUNDS)]
    ratio = statistics.median(large / small for large, small in pairs)
    large, small = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"CPU of a call: {large:.0f} us with a million, {small:.0f} us with nine, ratio {ratio:.2f}")


@contextmanager
def _served(service: RecommendationService) -> Iterator[Any]:
    server = grpc.server(ThreadPoolExecutor(1))
    add_RecommendationsServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RecommendationsStub(channel)  # type: ignore[no-untyped-call]
    server.stop(None).wait()


def _cost_us(stub: Any) -> float:
    request = RecommendationRequest(user_id=1, max_results=3)
    started = time.process_time()
    for _ in range(CALLS):
        stub.Recommend(request, timeout=10)
    return (time.process_time() - started) / CALLS * 1e6


if __name__ == "__main__":
    main()
