"""A network that can be ill: it stands before a server, and passes on what both sides send."""

import asyncio
import socket
import struct
import threading
from contextlib import suppress

READ = 64 * 1024
LOOK_S = 0.05


class Relay:
    """Listens on an address and port (0: any) and connects each client to the server."""

    def __init__(self, address: tuple[str, int], server: tuple[str, int]) -> None:
        self.delay_s = 0.0  # of everything that is sent, each way
        self.is_silent = False  # connections stay, and nothing gets through: they are half open
        self.is_away = False  # all connections are reset, new ones too
        self._server = server
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(address)
        self.port: int = self._listener.getsockname()[1]
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._listen()))
        self._thread.start()

    def reset(self) -> None:
        """Reset all connections, once."""
        self._loop.call_soon_threadsafe(self._reset)

    def close(self) -> None:
        """Pass on no more."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        async with await asyncio.start_server(self._meet, sock=self._listener):
            await self._end.wait()
            self._reset()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _reset(self) -> None:
        for writer in [*self._open]:
            _break(writer)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.is_away:
                return
            there, onward = await asyncio.open_connection(*self._server)
            self._open.add(onward)
            try:
                await asyncio.gather(self._pass_on(reader, onward), self._pass_on(there, writer))
            finally:
                self._open.discard(onward)
                _break(onward)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, somebody has hung up, or the relay closes
        finally:
            self._open.discard(writer)
            _break(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What is delayed is delayed as a whole: it keeps its order, and nothing waits for what came before."""
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            data = b"..."
            while data:
                at_s, data = await due.get()
                await asyncio.sleep(at_s - loop.time())
                while self.is_silent:
                    await asyncio.sleep(LOOK_S)
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        async def take() -> None:
            data = b"..."
            while data:
                data = await reader.read(READ)
                due.put_nowait((loop.time() + self.delay_s, data))

        await asyncio.gather(deliver(), take())


def _break(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
