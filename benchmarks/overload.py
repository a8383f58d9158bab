"""What each service still does when it is asked for three times what it can do: goodput, refusals, recovery.

The services run as processes; requests are sent at a fixed rate whatever becomes of those before (open loop),
and count as good when they are answered within their patience. Recommendations is asked twice: as it is,
where a call is little but gRPC's own work, and with 2 ms of work in its handler. What a refused call costs
at least is measured with a server of gRPC alone.

Run: python -m benchmarks.overload
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.wire import Wire
from protobufs.recommendations_pb2 import RecommendationRequest

SECONDS = 4.0
CALL_S = 0.5
PAGE_S = 1.0
CLIENTS = 16
CONNECTIONS = 8  # of the gRPC client
REFUSED = 14_000  # calls a second: what is more than can be served, at three times that
METHOD = "/Recommendations/Recommend"
MESSAGE = RecommendationRequest(max_results=3).SerializeToString()

Ask = Callable[[], Awaitable[str]]


def main() -> None:
    """Print the figures of both services."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        shop, port, working = (_free_port() for _ in range(3))
        variables = {
            "MARKETPLACE_PORT": str(shop),
            "MARKETPLACE_METRICS_PORT": "0",
            "MARKETPLACE_CLIENT_CONNECTIONS": "800",  # the load comes from one address
            "RECOMMENDATIONS_PORT": str(port),
            "RECOMMENDATIONS_METRICS_PORT": "0",
            "OTEL_TRACES_EXPORTER": "none",
        }
        works = variables | {"RECOMMENDATIONS_PORT": str(working)}
        for where in ("python", "core"):
            with _service("benchmarks.refusing", directory, variables, where) as refusing:
                asyncio.run(_measure_refusals(where, refusing, _Calls(port).ask))
        asyncio.run(
            _measure_all(
                (stack.enter_context(_service("services.recommendations", directory, variables)), port),
                (stack.enter_context(_service("benchmarks.working", directory, works)), working),
                (stack.enter_context(_service("services.marketplace", directory, variables)), shop),
            )
        )


async def _measure_refusals(where: str, process: int, ask: Ask) -> None:
    while await _ask(ask) != "late":  # the first call, which stays
        await asyncio.sleep(0.05)
    cpu = _cpu_s(process)
    seen = await _open_loop(ask, REFUSED)
    cost = (_cpu_s(process) - cpu) / seen.total()
    print(f"gRPC alone, refusing all in {where}: {dict(seen)}, {cost * 1e6:.0f} us each")


async def _measure_all(little: tuple[int, int], working: tuple[int, int], shop: tuple[int, int]) -> None:
    await _measure("recommendations", little[0], _Calls(little[1]).ask)
    await _measure("recommendations with 2 ms of work a call", working[0], _Calls(working[1]).ask)
    await _measure("shop", shop[0], _Pages(shop[1]).ask)


async def _measure(name: str, process: int, ask: Ask) -> None:
    await _until_good(ask)
    capacity = await _closed_loop(ask)
    print(f"{name}: {capacity:.0f} a second with {CLIENTS} clients in turn")
    goods = {}
    for times in (1, 3):
        started, cpu = time.perf_counter(), _cpu_s(process)
        seen = await _open_loop(ask, times * capacity)
        cpu, took = _cpu_s(process) - cpu, time.perf_counter() - started
        goods[times] = seen["good"] / SECONDS
        rest = ", ".join(f"{count} {what}" for what, count in seen.most_common() if what != "good")
        started = time.perf_counter()
        await _until_good(ask)
        print(
            f"  {times} x: {goods[times]:.0f} good a second ({rest or 'nothing else'}); "
            f"{cpu / took:.2f} of a core, {cpu / seen.total() * 1e6:.0f} us a request; "
            f"the next after {(time.perf_counter() - started) * 1e3:.0f} ms"
        )
    print(f"  goodput at 3 x is {goods[3] / goods[1]:.2f} of that at 1 x")


async def _until_good(ask: Ask) -> None:
    while await _ask(ask) != "good":
        await asyncio.sleep(0.05)


async def _ask(ask: Ask) -> str:
    try:
        return await ask()
    except OSError as error:
        return type(error).__name__


async def _closed_loop(ask: Ask) -> float:
    """Good answers a second to clients that each wait for one before they ask for the next."""
    end = time.perf_counter() + SECONDS

    async def client() -> int:
        good = 0
        while time.perf_counter() < end:
            good += await ask() == "good"
        return good

    return sum(await asyncio.gather(*(client() for _ in range(CLIENTS)))) / SECONDS


async def _open_loop(ask: Ask, rate: float) -> Counter[str]:
    """What became of the requests that were sent at that rate."""
    started = time.perf_counter()
    asked: list[asyncio.Future[str]] = []
    while (passed := time.perf_counter() - started) < SECONDS:
        asked += [asyncio.ensure_future(ask()) for _ in range(int(passed * rate) - len(asked))]
        await asyncio.sleep(0.002)
    return Counter(await asyncio.gather(*asked))


class _Calls:
    """A client of recommendations, on a few connections, which the server ends after a while."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wires: list[Wire] = []
        self._count = 0
        self._lock = asyncio.Lock()

    async def ask(self) -> str:
        if len(self._wires) < CONNECTIONS:
            await self._connect()
        self._count += 1
        wire = self._wires[self._count % len(self._wires)]
        if wire.is_going:
            self._wires = [wire for wire in self._wires if not wire.is_going]
            return await self.ask()
        return await wire.call()

    async def _connect(self) -> None:
        async with self._lock:
            while len(self._wires) < CONNECTIONS:
                self._wires.append(await Wire.connect(self._port, METHOD, MESSAGE, CALL_S))


class _Pages:
    """Readers of the shop's home page; each takes a connection that is free, or a new one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self) -> str:
        try:
            return await asyncio.wait_for(self._ask(), PAGE_S)
        except TimeoutError:
            return "timeout"
        except (OSError, asyncio.IncompleteReadError) as error:
            return type(error).__name__

    async def _ask(self) -> str:
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                break
            writer.close()  # the shop has hung up meanwhile
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        self._free.append((reader, writer))
        status = head[9:12].decode()
        return "good" if status == "200" else status


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _cpu_s(group: int) -> float:
    """CPU time that the processes of a group have used so far (Linux's proc(5))."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # that one has ended
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def _service(module: str, directory: str, variables: dict[str, str], *arguments: str) -> Iterator[int]:
    """The id of the process, which leads its group."""
    environ = os.environ | {"PYTHONPATH": os.getcwd()} | variables
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(
        command, cwd=directory, env=environ, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
