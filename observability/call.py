"""The record of one call. Every signal is made from it, so no two signals can disagree."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from observability.journal import Journal

OTHER = "_OTHER"
ATTEMPTS = "grpc-previous-rpc-attempts"
MAX_DETAILS = 256
FAULTS = frozenset({"UNKNOWN", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, eq=False)
class Method:
    """What is the same for every call of a method, so that signals can work it out once.

    side is "client" or "server"; kind is "unary", "client_stream", "server_stream" or "bidi_stream";
    address and port are the target's, where the side is a client and the target is known;
    a quiet method is counted, but neither traced nor logged.
    """

    side: str
    kind: str
    service: str
    name: str
    address: str = ""
    port: int | None = None
    quiet: bool = False

    @cached_property
    def streams_responses(self) -> bool:
        """Whether it answers with a stream."""
        return self.kind in {"server_stream", "bidi_stream"}

    @cached_property
    def full_name(self) -> str:
        """Service and method as one name, `package.Service/Method`; `_OTHER` for an unknown one."""
        return OTHER if OTHER in {self.service, self.name} else f"{self.service}/{self.name}"


class Failure:
    """An exception as it is reported: its type, its message and its stack, and none of its frames.

    Frames may hold whole requests; the lines of the stack are read from the files when it is printed.
    """

    def __init__(self, error: BaseException) -> None:
        kind = type(error)
        self.type = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        self._trace = traceback.TracebackException.from_exception(error, lookup_lines=False)

    @property
    def message(self) -> str:
        """The exception's text, even if its `__str__` raises."""
        return str(self._trace)

    @property
    def stack(self) -> str:
        """The traceback as Python prints it."""
        return "".join(self._trace.format())


class Record:
    """What a gRPC call and an HTTP request have in common: one stopwatch, one span, one end.

    `status` is how it ended, as text; `started_ns` is in nanoseconds since the epoch. Once it has ended,
    there are `duration_ns` and `error`, what its code raised. `span` is the current span of its code (None:
    it is not traced), `owns_span` whether it is ours to end. `is_ending`: its code is done, and only the
    word of the framework on the outcome is missing.
    """

    status = "UNKNOWN"
    duration_ns = 0
    is_ending = False
    owns_span = True
    span: Span | None = None
    error: Failure | None = None

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._open = [None]
        self.started_ns = time.time_ns()
        self._clock_ns = time.perf_counter_ns()
        journal.live.add(self)

    @property
    def operation(self) -> Any:
        """What it is a call of; has a side and is quiet or not."""
        raise NotImplementedError

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, or belongs to the process that this one was forked from."""
        return not self._open

    @property
    def age_ns(self) -> int:
        """Nanoseconds since the start."""
        return time.perf_counter_ns() - self._clock_ns

    @property
    def duration_s(self) -> float:
        """How long it took, in seconds."""
        return self.duration_ns / 1e9

    @property
    def ended_ns(self) -> int:
        """When it ended, in nanoseconds since the epoch."""
        return self.started_ns + self.duration_ns

    def close(self) -> bool:
        """Stop the clock; False when somebody else has done so, which may be another thread."""
        try:
            self._open.pop()  # atomic: of two threads that race to end a record, one gets it
        except IndexError:
            return False
        self.duration_ns = self.age_ns
        return True

    def settle(self) -> None:
        """End it if the framework's word on the outcome, for which a flush waits, may never come."""

    def disown(self) -> None:
        """Let this process forget the record: the process that it was forked from ends it."""
        self._open.clear()

    def fail(self, entry: str) -> None:
        """Count a failure of ours, and end the record all the same, with what is known."""
        self._journal.tally.failure(entry)
        if self.close():
            self._journal.end(self)

    def file(self, error: BaseException | None = None, *, urgent: bool = False) -> None:
        """Hand the closed record to the journal; urgent ones are not kept waiting."""
        if error is not None:
            try:
                self.error = Failure(error)
            except Exception:  # an exception class may do anything when it is looked at
                self._journal.tally.failure("stack")
        self._journal.end(self, urgent=urgent)


class Call(Record):
    """One gRPC call, from its start to its end.

    `method` is what is called; `metadata` what the client sent, as pairs of key and value, and `headers` what
    telemetry adds to it; `peer` is the other side, as gRPC writes it; `deadline_s` is the deadline in seconds
    from the start (None: it has none); `received` and `sent` count messages; `sizes` are those of messages
    received and sent, in bytes, where they are measured; `queued_s` is how many seconds the call waited for a
    thread (None: it needs none); `first_ns` is how many nanoseconds the first of many responses took (0: none
    yet); `asked` is the method that was asked for, where the server does not have it.

    Once it has ended, `status` is gRPC's name for the outcome, `details` the first 256 characters of its
    details, `trailers` the trailing metadata, `error` the Failure of a handler that raised, and
    `deadline_left_s` how many seconds were left of the deadline (None: it had none).
    """

    received = sent = first_ns = 0
    watches = False  # whether it looks at the messages that it counts
    sizes: tuple[Sequence[int], Sequence[int]] = ((), ())
    details = ""
    headers: Metadata = ()
    trailers: Metadata = ()
    deadline_left_s: float | None = None

    def __init__(
        self,
        journal: Journal,
        method: Method,
        metadata: Metadata = (),
        peer: str = "",
        deadline_s: float | None = None,
        queued_s: float | None = None,
        asked: str = "",
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.peer = peer
        self.deadline_s = deadline_s
        self.queued_s = queued_s
        self.asked = asked
        super().__init__(journal)

    @property
    def operation(self) -> Method:
        """Its method."""
        return self.method

    @property
    def attempts(self) -> int:
        """How often its client tried before, by gRPC's retries (gRFC A6)."""
        metadata = self.metadata if self.method.side == "server" else ()  # a client's may be anything
        for key, value in metadata:
            if key == ATTEMPTS and str(value).isdecimal():
                return int(value)
        return 0

    @property
    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.deadline_s is not None and self.age_ns >= self.deadline_s * 1e9

    def message_received(self, message: Any) -> None:  # noqa: ARG002 (WatchedCall looks at it)
        """Count a message that was received."""
        self.received += 1
        if not self.first_ns and self.method.streams_responses and self.method.side == "client":
            self.first_ns = self.age_ns

    def message_sent(self, message: Any) -> None:  # noqa: ARG002
        """Count a message that was sent."""
        self.sent += 1
        if not self.first_ns and self.method.streams_responses and self.method.side == "server":
            self.first_ns = self.age_ns

    def end(
        self, status: str, details: str = "", error: BaseException | None = None, trailers: Metadata = ()
    ) -> None:
        """Record once how the call ended; what comes later is ignored.

        status is gRPC's name for it, such as "NOT_FOUND"; error is what the handler raised, if it did.
        """
        if not self.close():
            return
        self.status = status
        self.details = details[:MAX_DETAILS]
        self.trailers = trailers
        if self.deadline_s is not None:
            self.deadline_left_s = max(self.deadline_s - self.duration_s, 0.0)
        self.file(error, urgent=error is not None or status in FAULTS)
