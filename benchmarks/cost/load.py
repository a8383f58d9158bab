"""The calls: the same from one client for each server."""

import asyncio
from itertools import cycle
from typing import Any

import grpc
import uvloop

from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub

AT_ONCE = 8
CATEGORIES = ("MYSTERY", "SCIENCE_FICTION", "SELF_HELP")
TIMEOUT_S = 10.0
TRACEPARENT = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)


def call(target: str, count: int) -> None:
    """Make count calls, AT_ONCE at a time, each in a sampled trace and with a deadline, as the shop does.

    Raises grpc.RpcError when one of them fails.
    """
    uvloop.run(_call(target, count))


async def _call(target: str, count: int) -> None:
    turns = cycle(RecommendationRequest(user_id=1, category=name, max_results=3) for name in CATEGORIES)
    async with grpc.aio.insecure_channel(target) as channel:
        recommend = RecommendationsStub(channel).Recommend  # type: ignore[no-untyped-call]
        left = iter(range(count))
        await asyncio.gather(*(_take_turns(recommend, left, turns) for _ in range(AT_ONCE)))


async def _take_turns(recommend: Any, left: Any, turns: Any) -> None:
    for _ in left:
        await recommend(next(turns), metadata=TRACEPARENT, timeout=TIMEOUT_S)
