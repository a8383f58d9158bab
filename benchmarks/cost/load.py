"""The calls: the same from one client for each server."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

import grpc

from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub

AT_ONCE = 4
TIMEOUT_S = 10.0
TRACEPARENT = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)
REQUESTS = [
    RecommendationRequest(user_id=1, category=name, max_results=3)
    for name in ("MYSTERY", "SCIENCE_FICTION", "SELF_HELP")
]


def call(target: str, count: int) -> float:
    """Make count calls as the shop does: from AT_ONCE threads, each in a sampled trace and with a deadline.

    Returns how many calls a second it made. Raises grpc.RpcError when one of them fails.
    """
    with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(AT_ONCE) as threads:
        recommend = RecommendationsStub(channel).Recommend  # type: ignore[no-untyped-call]

        def take_turns(turns: int) -> None:
            for request in islice(cycle(REQUESTS), turns):
                recommend(request, metadata=TRACEPARENT, timeout=TIMEOUT_S)

        started = time.perf_counter()
        list(threads.map(take_turns, [len(range(first, count, AT_ONCE)) for first in range(AT_ONCE)]))
        return count / (time.perf_counter() - started)


def paced(target: str, count: int, rate: float) -> list[float]:
    """Start count calls at regular times, rate of them a second, however long they take.

    Returns how long each took, in seconds, from the time at which it was due.
    """
    took_s: list[float] = []
    all_done = threading.Event()

    def note(call: Any, due: float) -> None:
        took_s.append(time.perf_counter() - due if call.code() is grpc.StatusCode.OK else TIMEOUT_S)
        if len(took_s) == count:
            all_done.set()

    gc.collect()
    gc.disable()  # a collection here would be taken for a slow server
    try:
        with grpc.insecure_channel(target) as channel:
            recommend = RecommendationsStub(channel).Recommend  # type: ignore[no-untyped-call]
            recommend(REQUESTS[0], timeout=TIMEOUT_S)  # connects
            first = time.perf_counter()
            for number, request in enumerate(islice(cycle(REQUESTS), count)):
                due = first + number / rate
                time.sleep(max(due - time.perf_counter(), 0))
                made = recommend.future(request, metadata=TRACEPARENT, timeout=TIMEOUT_S)
                made.add_done_callback(lambda call, due=due: note(call, due))
            all_done.wait(TIMEOUT_S)
    finally:
        gc.enable()
    if len(took_s) != count:
        raise TimeoutError(f"{len(took_s)} of {count} calls ended")
    return took_s
