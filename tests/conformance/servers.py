"""Servers of both flavours on every transport, channels to them, and a loop for asyncio, for one stack."""

import asyncio
import socket
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import grpc

from tests.conformance.case import HAS_IPV6, Case, deserialize, serialize
from tests.conformance.observations import Seen
from tests.conformance.stacks import Stack
from tools.certs import Authority

STOPPING_S = 0.2  # a handler that raised SystemExit leaves its RPC open for ever
MIGRATED = 128  # threads for plain handlers of an asyncio server: a stream that was left keeps its own


class Methods(grpc.GenericRpcHandler):
    """The handlers of all cases, by their methods; what each saw is kept beside it."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self.seen: dict[str, Seen] = {}
        self._handlers: dict[str, Any] = {}
        for case in cases:
            seen = self.seen[case.name] = Seen(case.flavour, case.stays)
            make = getattr(grpc, f"{case.kind}_rpc_method_handler")
            if (behavior := case.handler(seen)) is not None:
                self._handlers[case.method] = make(behavior, deserialize, serialize)

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method."""
        return self._handlers.get(handler_call_details.method)


class Loop:
    """An asyncio loop on its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], timeout_s: float = 30.0) -> Any:
        """Run it there and wait for it here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self, pool: ThreadPoolExecutor) -> None:
        """Stop it, once its pool's threads have ended: that of a plain stream that was left waits for ever."""
        ending = threading.Thread(target=pool.shutdown)
        ending.start()
        while ending.is_alive():
            self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        if not self._thread.is_alive():
            self._loop.close()

    @staticmethod
    async def _cancel_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.05)


class World:
    """The servers and channels of one stack; to be closed."""

    def __init__(self, stack: Stack, methods: Methods) -> None:
        self.stack, self.methods = stack, methods
        self._ends = ExitStack()
        self.folder = Path(self._ends.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority()
        self._issued, self._ca = authority.issue("localhost"), authority.pem
        self.loop = Loop()
        self._pool = ThreadPoolExecutor(MIGRATED)
        self.targets: dict[tuple[str, str], str] = {}
        self._channels: dict[tuple[str, str, str], Any] = {}
        self._lock = threading.Lock()
        self.alone = threading.Lock()  # for cases that share a server with a limit
        self._start_sync(methods)
        self.loop.run(self._start_aio(methods))

    def _start_sync(self, methods: Methods) -> None:
        pool = self._ends.enter_context(ThreadPoolExecutor(64))
        for limit in (None, 1):
            server = grpc.server(pool, interceptors=self.stack.server("sync"), maximum_concurrent_rpcs=limit)
            server.add_generic_rpc_handlers((methods,))
            self._bind(server, "sync", limit)
            server.start()
            self._ends.callback(_stop, server)

    async def _start_aio(self, methods: Methods) -> None:
        for flavour, limit in product(("aio", "plain"), (None, 1)):
            server = grpc.aio.server(
                self._pool,
                interceptors=self.stack.server(flavour),
                maximum_concurrent_rpcs=limit,
            )
            server.add_generic_rpc_handlers((methods,))
            self._bind(server, flavour, limit)
            await server.start()
            self._ends.callback(self._stop_aio, server)

    def _stop_aio(self, server: Any) -> None:
        self.loop.run(server.stop(0))

    def _bind(self, server: Any, flavour: str, limit: int | None) -> None:
        if limit:
            self.targets[flavour, "limited"] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            return
        unix = f"unix:{self.folder}/{flavour}.sock"
        server.add_insecure_port(unix)
        secret = grpc.ssl_server_credentials([self._issued])
        self.targets |= {
            (flavour, "ipv4"): f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}",
            (flavour, "unix"): unix,
            (flavour, "tls"): f"localhost:{server.add_secure_port('localhost:0', secret)}",
        }
        if HAS_IPV6:
            self.targets[flavour, "ipv6"] = f"[::1]:{server.add_insecure_port('[::1]:0')}"

    def channel(self, client: str, server: str, transport: str) -> Any:
        """The channel of a client of that flavour to a server of that flavour; made once."""
        with self._lock:
            key = client, server, transport
            if key not in self._channels:
                connect = self.connect if client == "sync" else self._connect_aio
                self._channels[key] = connect(self.targets[server, transport], transport)
            return self._channels[key]

    def connect(self, target: str, transport: str = "ipv4") -> Any:
        """A new channel with the stack's interceptors; closed with the world."""
        secret = grpc.ssl_channel_credentials(self._ca)
        bare = grpc.secure_channel(target, secret) if transport == "tls" else grpc.insecure_channel(target)
        self._ends.callback(bare.close)
        return self.stack.channel(bare, target)

    def _connect_aio(self, target: str, transport: str) -> Any:
        async def make() -> Any:
            interceptors = self.stack.aio_client(target)
            if transport != "tls":
                return grpc.aio.insecure_channel(target, interceptors=interceptors)
            secret = grpc.ssl_channel_credentials(self._ca)
            return grpc.aio.secure_channel(target, secret, interceptors=interceptors)

        channel = self.loop.run(make())
        self._ends.callback(lambda: self.loop.run(channel.close()))
        return channel

    def close(self) -> None:
        """Stop all of it."""
        try:
            self._ends.close()
        finally:
            self.loop.close(self._pool)

    @contextmanager
    def wire(self, target: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Another address of the target, and a count of the bytes that go through it."""
        count = {"out": 0, "in": 0}
        host, _, port = target.rpartition(":")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            threading.Thread(target=_forward, args=(listener, (host, int(port)), count), daemon=True).start()
            yield f"127.0.0.1:{listener.getsockname()[1]}", count


def _stop(server: grpc.Server) -> None:
    server.stop(0).wait(STOPPING_S)


def _forward(listener: socket.socket, target: tuple[str, int], count: dict[str, int]) -> None:
    """Pass one connection on."""
    client, _ = listener.accept()
    server = socket.create_connection(target)

    def pump(source: socket.socket, sink: socket.socket, way: str) -> None:
        with source, suppress(OSError):
            while data := source.recv(65536):
                count[way] += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=pump, args=(client, server, "out"), daemon=True).start()
    pump(server, client, "in")
