"""Calls of all kinds with random ends: they must leave nothing behind.

Run: python -m tests.soak [CALLS] (200000; half on a threaded server, half on an asyncio one)
"""

import gc
import io
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.sdk.trace import SpanProcessor

from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import aio_server_thread, channel, sync_server

CALLS = 200_000
WARM_UP = 0.1  # of the calls
GROWTH_MIB = 16.0
ENDS = ("returns", "raises", "sets_then_raises", "sets", "rich", "unserializable", "no_such_method")
SERVICE = "/test.Service"
CODES = [code.name for code in grpc.StatusCode if code.name not in {"OK", "CANCELLED", "DEADLINE_EXCEEDED"}]


class Open(SpanProcessor):
    """How many spans have started and not ended."""

    def __init__(self) -> None:
        self.ids: set[int] = set()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """One more."""
        self.ids.add(span.context.span_id)

    def on_end(self, span: Any) -> None:
        """One less."""
        self.ids.discard(span.context.span_id)


class Observed(MemoryTelemetry):
    """Telemetry that keeps no spans and no lines: they would be taken for a leak."""

    def __init__(self) -> None:
        self.open = Open()
        super().__init__(log_stream=Nothing())

    def _processor(self) -> Any:
        return self.open


class Nothing(io.StringIO):
    """A stream that forgets."""

    def write(self, text: str) -> int:
        """Forget it."""
        return len(text)


def requests(end: threading.Event) -> Iterator[bytes]:
    """Some messages, and then none until the call ends."""
    yield from (b"1", b"2")
    end.wait(5)


def unary(made: Any) -> None:
    """A unary call that ends in one of all ways, but for an unparsable request.

    For that one, grpcio's threaded server itself (1.85.1) keeps 16 KiB.
    """
    method = random.choice(
        ["returns", "raises", "sets_then_raises", "sets", "rich", "unserializable", "none"]
    )
    made.unary_unary(f"{SERVICE}/{method}").future(b"x", timeout=10).exception()


def aborted(made: Any) -> None:
    """A call that the server refuses."""
    made.unary_unary(f"{SERVICE}/aborts").future(random.choice(CODES).encode(), timeout=10).exception()


def given_up(made: Any) -> None:
    """A call that its client cancels, drops, or leaves to its deadline."""
    future = made.unary_unary(f"{SERVICE}/slow").future(b"x", timeout=random.choice([0.005, 5]))
    if random.choice((True, False)):
        future.cancel()


def left_early(made: Any) -> None:
    """A stream that is left after its first message: cancelled, or dropped."""
    stream = made.unary_stream(f"{SERVICE}/ticks")(b"x", timeout=10)
    next(stream)
    if random.choice((True, False)):
        stream.cancel()


def both_ways(made: Any) -> None:
    """Two streams, read to the end or left."""
    end = threading.Event()
    stream = made.stream_stream(f"{SERVICE}/count")(requests(end), timeout=10)
    next(stream)
    if random.choice((True, False)):
        stream.cancel()
        end.set()
    else:
        end.set()
        list(stream)


WAYS = [unary] * 12 + [aborted] * 4 + [given_up, left_early, both_ways]


def soak(serve: Any, calls: int) -> list[str]:
    """Make the calls on the server; what was left behind, in words."""
    telemetry = Observed()
    with serve(telemetry) as target, channel(telemetry, target) as made:
        before = {}
        for number in range(calls):
            if number == int(calls * WARM_UP):
                before = _left(telemetry)
            random.choice(WAYS)(made)
        after = _left(telemetry)
    print(f"{serve.__name__}: {calls} calls; after {WARM_UP:.0%} {before}, at the end {after}")
    growth = after.pop("MiB") - before.pop("MiB")
    left = [f"{key}: {before[key]} before, {after[key]} after" for key in after if after[key] > before[key]]
    return left + ([f"memory grew by {growth:.1f} MiB"] if growth > GROWTH_MIB else [])


def _left(telemetry: Observed) -> dict[str, float]:
    """What there is when no call is under way."""
    eventually(lambda: gc.collect() >= 0 and _in_flight(telemetry) == 0 and not telemetry.open.ids, 60)
    started = telemetry.value("grpc_client_started_total") + telemetry.value("grpc_server_started_total")
    handled = telemetry.value("grpc_client_handled_total") + telemetry.value("grpc_server_handled_total")
    return {
        "MiB": _resident_mib(),
        "threads": threading.active_count(),
        "open spans": len(telemetry.open.ids),
        "in flight": _in_flight(telemetry),
        "not handled": started - handled,
        "signal failures": telemetry.value("telemetry_signal_failures_total"),
    }


def _in_flight(telemetry: Observed) -> float:
    return telemetry.value("grpc_client_in_flight") + telemetry.value("grpc_server_in_flight")


def _resident_mib() -> float:
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    each = int(sys.argv[1] if len(sys.argv) > 1 else CALLS) // 2
    problems = [problem for serve in (sync_server, aio_server_thread) for problem in soak(serve, each)]
    print("\n".join(problems) or "nothing was left behind")
    sys.exit(bool(problems))
