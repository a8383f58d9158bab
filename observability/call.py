"""The record of one call. Every signal is told from it, so that no two signals can disagree."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from observability.failures import Failures

OTHER = "_OTHER"
MAX_METHODS = 1000

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Method:
    """What is the same for each call of a method, so that signals can work it out once.

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
    def answers(self) -> str:
        """The direction of responses, seen from this side: "sent" or "received"."""
        return "sent" if self.side == "server" else "received"

    @cached_property
    def streams_responses(self) -> bool:
        """Whether it answers with a stream."""
        return self.kind in {"server_stream", "bidi_stream"}

    @cached_property
    def full_name(self) -> str:
        """Service and method as one name, `package.Service/Method`."""
        return f"{self.service}/{self.name}"


End = Callable[["Call"], None]
Start = Callable[["Call"], End | None]
Listener = Callable[["Call", str], None]


class Signal(Protocol):
    """One way to tell of a call: it gets the record at the start and hands back what to do at the end."""

    name: str
    loud: bool  # left out for quiet methods

    def bind(self, method: Method) -> Start:
        """Prepare what is the same for each call of this method."""
        ...


class Call:
    """One call, from its start to its end.

    Times are in seconds unless the name says nanoseconds (_ns). `headers` is what a signal wants to send
    along to the server; `received` and `sent` count messages; `trace_id` and `span_id` (hexadecimal, empty
    when there is no trace) and `sampled` are set by the tracing signal. `queued_s` is how long the call
    waited for a thread (None: it needs none), `attempts` how many tries its client made before this one,
    `first_ns` how long the first of many responses took (0: none yet). `duration_s` is told once the call has
    ended, as is `deadline_left_s`, what was left of the deadline then (None: it had none).
    """

    __slots__ = (
        "_ends", "_failures", "_listeners", "_start_ns", "attempts", "deadline_left_s", "deadline_s",
        "details", "duration_ns", "duration_s", "error", "first_ns", "headers", "metadata", "method", "peer",
        "queued_s", "received", "sampled", "sent", "span_id", "started_ns", "status", "trace_id", "trailers",
    )  # fmt: skip

    def __init__(
        self,
        method: Method,
        metadata: Metadata,
        peer: str,
        deadline_s: float | None,
        queued_s: float | None,
        attempts: int,
        failures: Failures,
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.peer = peer
        self.deadline_s, self.queued_s, self.attempts = deadline_s, queued_s, attempts
        self.headers: list[tuple[str, str]] = []
        self.trace_id = self.span_id = ""
        self.sampled = False
        self.received = self.sent = self.first_ns = self.duration_ns = 0
        self.duration_s, self.deadline_left_s = 0.0, deadline_s
        self.status = self.details = ""
        self.error: BaseException | None = None
        self.trailers: Metadata = ()
        self.started_ns = time.time_ns()
        self._start_ns = time.perf_counter_ns()
        self._failures = failures
        self._ends: list[list[tuple[str, End]]] = [[]]
        self._listeners: list[tuple[str, Listener]] = []

    @property
    def has_ended(self) -> bool:
        """Whether it was said how the call ended."""
        return not self._ends

    @property
    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return (
            self.deadline_s is not None and time.perf_counter_ns() - self._start_ns >= self.deadline_s * 1e9
        )

    def start(self, starts: Iterable[tuple[str, Start]]) -> None:
        """Let each signal begin; one that fails is counted and left out."""
        ends = self._ends[0]
        for name, start in starts:
            try:
                end = start(self)
            except Exception:
                self._failures.count(name)
            else:
                if end is not None:
                    ends.append((name, end))

    def listen(self, name: str, listener: Listener) -> None:
        """Let the signal of that name hear of each message, "sent" or "received", as it passes."""
        self._listeners.append((name, listener))

    def message(self, direction: str) -> None:
        """A message passed: "sent" or "received"."""
        if direction == "sent":
            self.sent += 1
        else:
            self.received += 1
        if not self.first_ns and self.method.streams_responses and direction == self.method.answers:
            self.first_ns = time.perf_counter_ns() - self._start_ns
        for name, listener in self._listeners:
            try:
                listener(self, direction)
            except Exception:
                self._failures.count(name)

    def end(
        self, status: str, details: str = "", error: BaseException | None = None, trailers: Metadata = ()
    ) -> None:
        """Say once how the call ended; a later word is ignored.

        status is gRPC's name of it, such as "NOT_FOUND"; error is what the handler raised, if it did.
        """
        try:
            ends = self._ends.pop()  # atomic: of two threads that race to end a call, one gets it
        except IndexError:
            return
        self.duration_ns = time.perf_counter_ns() - self._start_ns
        self.duration_s = self.duration_ns / 1e9
        if self.deadline_s is not None:
            self.deadline_left_s = max(self.deadline_s - self.duration_s, 0.0)
        self.status, self.details, self.error, self.trailers = status, details, error, trailers
        for name, end in reversed(ends):
            try:
                end(self)
            except Exception:
                self._failures.count(name)
        self.error = None  # its traceback holds frames, and they this call


class Recorder:
    """Makes the records of one side's calls and tells the signals of them, in their order."""

    def __init__(
        self,
        side: str,
        signals: Sequence[Signal],
        failures: Failures,
        quiet: Callable[[str], bool],
        address: str = "",
        port: int | None = None,
    ) -> None:
        self._side, self._signals, self._failures, self._quiet = side, signals, failures, quiet
        self._address, self._port = address, port
        self._bound: dict[tuple[str, str], Bound] = {}
        self._lock = threading.RLock()  # garbage that is collected meanwhile may make a call, too

    def bind(self, path: str, kind: str) -> "Bound":
        """The recorder of one method. path is as on the wire, `/package.Service/Method`.

        Beyond MAX_METHODS names, which no real service has, the name becomes `_OTHER`.
        """
        bound = self._bound.get((path, kind))
        if bound is None:
            with self._lock:
                if len(self._bound) >= MAX_METHODS and path != OTHER:
                    path = OTHER
                bound = self._bound.setdefault((path, kind), self._make(path, kind))
        return bound

    def _make(self, path: str, kind: str) -> "Bound":
        service, _, name = path.lstrip("/").rpartition("/")
        method = Method(
            self._side, kind, service or OTHER, name or OTHER, self._address, self._port, self._quiet(path)
        )
        starts: list[tuple[str, Start]] = []
        for signal in self._signals:
            if method.quiet and signal.loud:
                continue
            try:
                starts.append((signal.name, signal.bind(method)))
            except Exception:
                self._failures.count(signal.name)
        return Bound(method, starts, self._failures)


class Bound:
    """Starts the calls of one method."""

    def __init__(self, method: Method, starts: list[tuple[str, Start]], failures: Failures) -> None:
        self.method, self._starts, self._failures = method, starts, failures

    def begin(
        self,
        metadata: Metadata = (),
        peer: str = "",
        deadline_s: float | None = None,
        queued_s: float | None = None,
        attempts: int = 0,
    ) -> Call:
        """Start a call. Whoever calls this gives it a contextvars context of its own: tracing enters its
        span there and never leaves it."""
        call = Call(self.method, metadata, peer, deadline_s, queued_s, attempts, self._failures)
        call.start(self._starts)
        return call
