"""What a case is: a handler, a client that calls it, and what it asserts."""

import enum
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.observations import Seen

TIMEOUT_S = 10.0
KINDS = ("unary_unary", "stream_unary", "unary_stream", "stream_stream")
ONE = KINDS[:2]  # of response
MANY = KINDS[2:]
AS_METHOD = str.maketrans("/ ", "._")


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:  # a container's network may be without
        return False
    return True


HAS_IPV6 = _has_ipv6()


def serialize(message: Any) -> bytes:
    """Of all messages, which are bytes."""
    if not isinstance(message, bytes):
        raise TypeError("not bytes")
    return message


def deserialize(data: bytes) -> bytes:
    """Of all messages; there is one that cannot be parsed."""
    if data == b"unparsable":
        raise ValueError("unparsable")
    return data


class Part(enum.Flag):
    """What a case with a reason may leave out; a case without a reason asserts all of it."""

    HANDLER = enum.auto()  # the handler sees what it sees on bare grpcio
    SERVER_STATUS = enum.auto()  # whether the server hears of the call, and the status that it records
    EXCEPTION = enum.auto()  # whether the server records an exception
    CLEAN_UP = enum.auto()  # when a generator is closed, and the span that is current then
    MESSAGES = enum.auto()  # the numbers of messages sent and received
    ONE_CALL = enum.auto()  # all that is asked of a single call


class Reason(enum.Enum):
    """Why a case asserts less than the others: in words, and what it leaves out."""

    RACE = (
        "timing decides how much the server hears of the call",
        Part.HANDLER | Part.SERVER_STATUS | Part.EXCEPTION | Part.MESSAGES,
    )
    CALLS = "it makes several calls, or calls of methods that no server has", Part.ONE_CALL
    HANDLER_UNRUN = "grpcio takes the handler, but does not run its body", Part.MESSAGES
    UNPARSABLE = "a message that cannot be parsed cuts off those beside it", Part.MESSAGES
    GARBAGE = "garbage collection closes the handler's generator, not gRPC", Part.CLEAN_UP
    ABORTED_AND_RAISED = (
        "the handler aborts and raises: the outcome table has no line for both",
        Part.EXCEPTION,
    )

    def __init__(self, words: str, leaves_out: Part) -> None:
        self.words, self.leaves_out = words, leaves_out

    @property
    def without(self) -> str:
        """What it leaves out, in words."""
        return ", ".join(str(part.name).lower().replace("_", " ") for part in self.leaves_out)


@dataclass(frozen=True)
class Case:
    """A behaviour. Its name is its method's name, too, so that what telemetry recorded of it can be found.

    flavour says what handlers are made for (see Seen); client is "sync" or "aio". `handler` makes the
    handler, `drive` calls it and gives what the client saw. What the checks must know and cannot see:
    `status`, the one that the client's telemetry must record where the client does not look at it;
    `server_status`, where the server's is another than the client's; `uncaught`, whether an exception leaves the
    handler, or gRPC's own code around it; `calls`, how many calls of its method the client and the server record;
    `entered`, whether the handler is called; `stays`, whether the client is sure to wait for its end.
    `reason` says why the case asserts less than the others, where it does.
    """

    name: str
    flavour: str
    kind: str
    handler: Callable[[Seen], Any]
    drive: Callable[[Any], Any]
    client: str = "sync"
    transport: str = "ipv4"
    entered: bool = True
    uncaught: bool = False
    status: str | None = None
    server_status: str | None = None
    calls: tuple[int, int] = (1, 1)
    stays: bool = False
    reason: Reason | None = None

    @property
    def method(self) -> str:
        """The path of its method."""
        return f"/conformance.Cases/{self.name.translate(AS_METHOD)}"

    def asserts(self, part: Part) -> bool:
        """Whether it asserts all of that part."""
        return self.reason is None or not part & self.reason.leaves_out
