"""The calls: the same from one client for each server."""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import grpc

from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub

AT_ONCE = 8
CATEGORIES = ("MYSTERY", "SCIENCE_FICTION", "SELF_HELP")
TIMEOUT_S = 10.0
TRACEPARENT = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)


def call(target: str, count: int) -> None:
    """Make count calls as the shop does: from AT_ONCE threads, each in a sampled trace and with a deadline.

    Raises grpc.RpcError when one of them fails.
    """
    with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(AT_ONCE) as threads:
        recommend = RecommendationsStub(channel).Recommend  # type: ignore[no-untyped-call]
        requests = [RecommendationRequest(user_id=1, category=name, max_results=3) for name in CATEGORIES]

        def take_turns(turns: int) -> None:
            for request in islice(cycle(requests), turns):
                recommend(request, metadata=TRACEPARENT, timeout=TIMEOUT_S)

        list(threads.map(take_turns, [len(range(first, count, AT_ONCE)) for first in range(AT_ONCE)]))
