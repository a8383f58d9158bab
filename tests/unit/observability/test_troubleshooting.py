"""What docs/observability.md says under "Troubleshooting" and no other test holds."""

import asyncio
import contextvars
import logging
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from observability.testing import MemoryTelemetry
from tests.unit.observability.conftest import Receiver
from tests.unit.observability.rpc import Sync, channel, sync_server

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/observability.md").read_text().partition("## Troubleshooting")[2].partition("\n## ")[0]
LOG = logging.getLogger("greeter")


def test_interceptors_of_the_wrong_kind() -> None:
    """grpcio refuses them in the words that the table quotes."""
    telemetry: Any = MemoryTelemetry()
    blocking: list[Any] = telemetry.client_interceptors()

    async def on_asyncio() -> list[str]:
        return [
            refused(lambda: grpc.aio.server(interceptors=telemetry.server_interceptors())),
            refused(lambda: grpc.aio.insecure_channel("127.0.0.1:9", interceptors=blocking)),
        ]

    with grpc.insecure_channel("127.0.0.1:9") as bare:
        said = [
            *asyncio.run(on_asyncio()),
            refused(lambda: grpc.intercept_channel(bare, cast("Any", blocking))),
            refused(lambda: grpc.intercept_channel(bare, *telemetry.aio_client_interceptors())),
            refused(lambda: grpc.server(ThreadPoolExecutor(), interceptors=telemetry.server_interceptors)),
        ]
    quoted = [re.escape(words).replace(r"\.\.\.", ".*") for words in re.findall(r"`([^`]+)`", TEXT)]
    assert [words for words in said if not any(re.match(words_, words) for words_ in quoted)] == []


def refused(use: Callable[[], object]) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        use()
    return f"{caught.typename}: {caught.value}"


def test_a_caller_that_does_not_sample(telemetry: MemoryTelemetry) -> None:
    """Its call has no span, but a line and a count."""
    unsampled = f"00-{'1' * 32}-{'2' * 16}-00"
    with sync_server(telemetry) as target, grpc.insecure_channel(target) as bare:
        returns: Any = bare.unary_unary("/test.Service/returns")
        returns(b"x", timeout=60, metadata=[("traceparent", unsampled)])
    assert telemetry.spans() == ()
    assert telemetry.line(event="grpc.server.call")["trace_id"] == "1" * 32
    assert telemetry.metric("grpc_server_handled_total", grpc_code="OK") == 1


def test_two_telemetries_on_one_server(telemetry: MemoryTelemetry) -> None:
    """Each makes its span."""
    other = MemoryTelemetry()
    with sync_server(telemetry, None, *other.server_interceptors()) as target, channel(other, target) as made:
        made.unary_unary("/test.Service/returns")(b"x", timeout=60)
    telemetry.span("test.Service/returns", kind="server")
    other.span("test.Service/returns", kind="server")


class Threads(Sync):
    """Writes a line on a thread that knows nothing of the call, and on one that has its context."""

    def returns(self, request: bytes, context: Any) -> bytes:
        plain = threading.Thread(target=LOG.warning, args=("plain",))
        copied = threading.Thread(target=contextvars.copy_context().run, args=(LOG.warning, "copied"))
        for thread in (plain, copied):
            thread.start()
            thread.join()
        return request


def test_a_thread_of_the_handlers(telemetry: MemoryTelemetry) -> None:
    """Its lines have the call's trace if it runs in a copy of the call's context."""
    telemetry.capture_logs()
    with sync_server(telemetry, Threads()) as target, channel(MemoryTelemetry(), target) as made:
        made.unary_unary("/test.Service/returns")(b"x", timeout=60)
    call = telemetry.line(event="grpc.server.call")
    assert "trace_id" not in telemetry.line(event="plain")
    assert telemetry.line(event="copied")["trace_id"] == call["trace_id"]


STOPPED = """
import os, signal, sys
from observability import Telemetry
telemetry = Telemetry("stopped")
telemetry.tracer_provider.get_tracer("mine").start_span("last").end()
{handler}
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_sigterm(receiver: Receiver) -> None:
    """The handler of the table lets the exit handlers deliver the last spans; without it Python runs none."""
    (handler,) = re.findall(r"`(signal\.signal\(.*?\))`", TEXT)
    ends = {
        text: subprocess.run([sys.executable, "-c", STOPPED.format(handler=text)], cwd=ROOT, check=False)
        for text in ("", handler)
    }
    assert [end.returncode for end in ends.values()] == [-signal.SIGTERM, 0]
    assert receiver.names == ["last"]
