"""What retries cost, simulated: replicas that refuse, and replicas that have too much to do.

Run: python -m benchmarks.storm

The retry policy and the deadline are the shop's. A replica serves 1,000 calls a second, one at a time, and
refuses a call when what waits would take longer than half the deadline; to refuse costs it a quarter of what
to serve costs. Retry throttling is gRPC's: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

from services.marketplace.recommendations.channel import SERVICE_CONFIG

SERVE_S, REFUSE_S = 0.001, 0.00025
DEADLINE_S = 0.5
REPLICAS, SECONDS, SEED = 10, 3, 1
PLANS = ("no retries", "retries", "retries with a budget")


@dataclass
class Replica:
    """Serves in the order of arrival."""

    refuses: bool = False
    free_s: float = 0.0  # when it has done what it has

    def take(self, now_s: float) -> float | None:
        """When a call that arrives now is done; None when it is refused."""
        begin_s = max(self.free_s, now_s)
        if self.refuses:
            return None
        if begin_s - now_s > DEADLINE_S / 2:
            self.free_s = begin_s + REFUSE_S
            return None
        self.free_s = begin_s + SERVE_S
        return self.free_s


@dataclass
class Budget:
    """Tokens as gRPC's retry throttling has them; without a limit it always allows."""

    most: float
    ratio: float
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.most

    def allows(self) -> bool:
        """Count a failure, and say whether its call may be tried again."""
        self.tokens = max(0.0, self.tokens - 1)
        return self.tokens > self.most / 2 or self.ratio == float("inf")

    def earn(self) -> None:
        """Count a success."""
        self.tokens = min(self.most, self.tokens + self.ratio)


def simulate(plan: str, load: float, refusing: int = 0) -> tuple[float, float]:
    """The share of calls, at load times the capacity, that is answered in time, and attempts for each."""
    chance = random.Random(SEED)
    config: Any = SERVICE_CONFIG
    policy, throttling = config["methodConfig"][0]["retryPolicy"], config["retryThrottling"]
    most = 1 if plan == PLANS[0] else policy["maxAttempts"]
    budget = Budget(throttling["maxTokens"], throttling["tokenRatio"] if plan == PLANS[2] else float("inf"))
    replicas = [Replica(number < refusing) for number in range(REPLICAS)]
    waiting = list(_arrivals(chance, load * REPLICAS / SERVE_S))
    calls, attempts, answered = len(waiting), 0, 0
    heapify(waiting)
    while waiting:
        now_s, start_s, number = heappop(waiting)
        done_s = replicas[attempts % REPLICAS].take(now_s)
        attempts += 1
        if done_s is not None:
            budget.earn()
            answered += done_s - start_s <= DEADLINE_S
        elif budget.allows() and number < most:
            limit = min(
                _s(policy["initialBackoff"]) * policy["backoffMultiplier"] ** (number - 1),
                _s(policy["maxBackoff"]),
            )
            heappush(waiting, (now_s + limit * chance.uniform(0.8, 1.2), start_s, number + 1))
    return answered / calls, attempts / calls


def _arrivals(chance: random.Random, rate: float) -> Iterator[tuple[float, float, int]]:
    now_s = 0.0
    while (now_s := now_s + chance.expovariate(rate)) < SECONDS:
        yield now_s, now_s, 1


def _s(duration: str) -> float:
    return float(duration.removesuffix("s"))


def table(name: str, rows: Iterable[tuple[str, float, int]]) -> str:
    """A table of Markdown: for each plan, the share answered in time and the attempts for a call."""
    lines = [f"| {name} | {' | '.join(PLANS)} |", "|---|" + "---|" * len(PLANS)]
    for label, load, refusing in rows:
        shown = (simulate(plan, load, refusing) for plan in PLANS)
        lines.append(f"| {label} | {' | '.join(f'{share:.1%}, {each:.2f}' for share, each in shown)} |")
    return "\n".join(lines)


def tables() -> str:
    """Replicas that refuse, at half the capacity; and loads beyond it."""
    refusing = [(f"{count} of {REPLICAS}", 0.5, count) for count in (0, 1, 3, 5, 10)]
    loads = [(f"{load} times the capacity", load, 0) for load in (0.9, 1.2, 2.0, 3.0)]
    return table("Replicas that refuse", refusing) + "\n\n" + table("Calls that come", loads)


if __name__ == "__main__":
    print(tables())
