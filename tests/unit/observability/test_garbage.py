"""A call that ends because garbage is collected, wherever that happens, neither hangs telemetry nor is lost."""

import asyncio
import gc
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import Counter
from prometheus_client.mmap_dict import MmapedDict

from observability.signals.families import shared
from observability.testing import MemoryTelemetry, eventually
from tests.unit.observability.rpc import aio_server, channel, sync_server

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def only_on_request() -> Iterator[None]:
    """Garbage is collected when a test says so, and not before."""
    gc.disable()
    yield
    gc.enable()


class CollectingStream(io.StringIO):
    """Garbage is collected in the midst of a write."""

    def write(self, text: str) -> int:
        gc.collect()
        return super().write(text)


def collect_while_a_counter_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is collected in the midst of making a new series of the counter that an ended call needs, too."""
    init = Counter._metric_init

    def collecting(counter: Counter) -> None:
        if counter._name == "grpc_client_handled":
            gc.collect()
        init(counter)

    monkeypatch.setattr(Counter, "_metric_init", collecting)


def in_time(work: Callable[[], None]) -> None:
    """Do it on a thread, which ends if nothing hangs."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def drop(garbage: Any) -> None:
    """Leave it to the collector: only a circle holds it."""
    circle: list[Any] = [garbage]
    circle.append(circle)


class Owner:
    """Cancels its call at its own end."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call.cancel()


def ask_blocking(server: MemoryTelemetry, client: MemoryTelemetry, ready: Callable[[], None]) -> None:
    with sync_server(server) as target, channel(client, target) as made:
        drop(made.unary_unary("/test.Service/slow").future(b"x"))
        eventually(lambda: server.value("grpc_server_in_flight") == 1)
        ready()
        assert made.unary_unary("/test.Service/returns")(b"x", timeout=10) == b"x"
        eventually(lambda: client.value("grpc_client_handled_total") == 2)


def ask_on_asyncio(server: MemoryTelemetry, client: MemoryTelemetry, ready: Callable[[], None]) -> None:
    async def run() -> None:
        async with aio_server(server) as target:
            interceptors = client.aio_client_interceptors(target)
            made: Any
            async with grpc.aio.insecure_channel(target, interceptors=interceptors) as made:
                drop(Owner(made.unary_unary("/test.Service/slow")(b"x")))
                await asyncio.to_thread(eventually, lambda: server.value("grpc_server_in_flight") == 1)
                ready()
                assert await made.unary_unary("/test.Service/returns")(b"x", timeout=10) == b"x"

    asyncio.run(run())


ASKS = pytest.mark.parametrize("ask", [ask_blocking, ask_on_asyncio])


@ASKS
def test_while_a_counter_is_made(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dropped call may end while prometheus_client makes a series for another, and of the same counter."""
    server, client = MemoryTelemetry(), MemoryTelemetry()
    in_time(lambda: ask(server, client, lambda: collect_while_a_counter_is_made(monkeypatch)))
    assert ended(client) == {"OK": 1, "CANCELLED": 1}
    assert client.value("grpc_client_in_flight") == 0


@ASKS
def test_while_a_line_is_written(ask: Any) -> None:
    """A dropped call may end while the line of another is written; both lines come, whole."""
    stream = CollectingStream()
    server, client = MemoryTelemetry(), MemoryTelemetry(log_stream=stream)
    in_time(lambda: ask(server, client, lambda: None))
    assert ended(client) == {"OK": 1, "CANCELLED": 1}
    assert client.force_flush(60)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted(line["status"] for line in lines) == ["CANCELLED", "OK"]


if shared():  # the test below runs it, in a separate process

    @ASKS
    def test_while_a_shared_counter_is_written(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dropped call may end while prometheus_client writes to its files, under the one lock that they have."""
        write = MmapedDict.write_value

        def collecting(values: MmapedDict, *arguments: Any) -> None:
            gc.collect()
            write(values, *arguments)

        server, client = MemoryTelemetry(), MemoryTelemetry()
        in_time(
            lambda: ask(server, client, lambda: monkeypatch.setattr(MmapedDict, "write_value", collecting))
        )
        assert ended(client) == {"OK": 1, "CANCELLED": 1}


@pytest.mark.parametrize("ask", ["ask_blocking", "ask_on_asyncio"])
def test_where_processes_share_their_metrics(ask: str, tmp_path: Path) -> None:
    """The test above passes in a process with prometheus_client's multiprocess mode."""
    test = f"{__file__}::test_while_a_shared_counter_is_written[{ask}]"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-cov", "-p", "no:cacheprovider", test],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def ended(telemetry: MemoryTelemetry) -> dict[str, float]:
    """How many calls ended with each status."""
    codes = ("OK", "CANCELLED", "UNKNOWN", "UNAVAILABLE")
    counts = {code: telemetry.value("grpc_client_handled_total", grpc_code=code) for code in codes}
    return {code: count for code, count in counts.items() if count}
