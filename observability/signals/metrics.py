"""The metrics of calls, under the names that go-grpc-prometheus gave them, and of HTTP requests.

Names: https://github.com/grpc-ecosystem/go-grpc-middleware/tree/main/providers/prometheus
"""

import threading
from bisect import bisect_left
from collections import Counter as Totals
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from observability import checks
from observability.call import OTHER, Call, Method, Record
from observability.journal import Journal
from observability.request import Endpoint, Request
from observability.signals.families import Families, shared
from observability.signals.own import OwnMetrics

Labels = tuple[str, ...]
Led = set[tuple[Any, Labels, int]]  # the buckets that have an exemplar of a batch

LABELS = ("grpc_type", "grpc_service", "grpc_method")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
PUBLISH_S = 0.25
FRESH_S = 1.0  # how long a read of the registry waits for the journal at most
BUCKETS_BYTES = (0, *(2**power for power in range(5, 25)))  # 32 bytes to 16 MiB
BUCKETS_RATIO = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class ExtraLabel:
    """A custom label on the metrics of calls, from a bounded set.

    of is called with the record of each call, after its end and, while it is in flight, at each scrape,
    never on the call's own thread, and returns the value; one that is not among values becomes `_OTHER`.
    """

    values: frozenset[str]
    of: Callable[[Call], str]

    def __post_init__(self) -> None:
        """Raise ValueError for values that are no set of texts, or an `of` that is no function."""
        checks.label(self.values, self.of)

    def value(self, call: Call) -> str:
        """The call's value; `_OTHER` also when `of` raises, or returns what no set can hold."""
        try:
            value = self.of(call)
            return value if value in self.values else OTHER
        except Exception:
            return OTHER


@dataclass(frozen=True)
class Options:
    """What a user may choose: custom labels, the bounds in seconds of the histograms of calls and of HTTP
    requests, the convention's histograms, and those of the sizes of messages.
    """

    extra_labels: Mapping[str, ExtraLabel] = field(default_factory=dict)
    buckets_s: Sequence[float] = BUCKETS_S
    http_buckets_s: Sequence[float] = BUCKETS_S
    convention: bool = False
    sizes: bool = False


class Running:
    """Brings the children of a family to totals that are worked out elsewhere."""

    def __init__(self, family: Any) -> None:
        self._family = family
        self._child = cache(family.labels)
        self._published: dict[Labels, float] = {}

    def publish(self, totals: Mapping[Labels, float]) -> None:
        """Add what is new since the last time; a gauge whose labels are missing goes to zero."""
        for labels in totals.keys() | self._published.keys():
            total = totals.get(labels, 0)
            change = total - self._published.get(labels, 0)
            if change or labels not in self._published:
                self.child(labels).inc(change)
                self._published[labels] = total

    def child(self, labels: Labels) -> Any:
        """The child with these labels, made at zero if there is none yet."""
        return self._child(*labels) if labels else self._family


class Measured:
    """A histogram, and what leads from its buckets to a trace."""

    def __init__(self, family: Histogram, bounds: Sequence[float]) -> None:
        self.child = cache(family.labels)
        self._bounds = tuple(bounds)

    def observe(
        self, labels: Labels, amount: float, record: Record | None = None, led: Led | None = None
    ) -> None:
        """Take one measurement.

        An exemplar is worth its cost once for each bucket and batch: the next one replaces it.
        """
        lead = None
        if record is not None and led is not None:
            bucket = self, labels, bisect_left(self._bounds, amount)
            if bucket not in led and (lead := exemplar(record)):
                led.add(bucket)
        self.child(*labels).observe(amount, lead)


class CallMetrics:
    """The metrics of the calls of one side ("server" or "client")."""

    def __init__(self, side: str, families: Families, options: Options) -> None:
        self._extra = tuple(options.extra_labels.values())
        labels = (*LABELS, *options.extra_labels)

        def made(kind: Any, name: str, documentation: str, *more: str, **how: Any) -> Any:
            return families.family(kind, f"grpc_{side}_{name}", documentation, (*labels, *more), **how)

        def histogram(name: str, documentation: str, buckets: Sequence[float]) -> Measured:
            return Measured(made(Histogram, name, documentation, buckets=buckets), buckets)

        self._started = Running(made(Counter, "started_total", f"Calls started on the {side}."))
        self._handled = Running(
            made(Counter, "handled_total", f"Calls ended on the {side}, by status.", "grpc_code")
        )
        self._in_flight = Running(made(Gauge, "in_flight", f"Calls on the {side} that have not ended."))
        self._received = Running(made(Counter, "msg_received_total", f"Messages that the {side} received."))
        self._sent = Running(made(Counter, "msg_sent_total", f"Messages that the {side} sent."))
        self._seconds = histogram(
            "handling_seconds", f"How long calls took on the {side}.", options.buckets_s
        )
        self._first = histogram(
            "first_message_seconds",
            f"How long the first response of a stream took on the {side}.",
            options.buckets_s,
        )
        self._deadline = histogram(
            "deadline_used_ratio",
            f"How much of its deadline a call used up on the {side}; 1 is all of it.",
            BUCKETS_RATIO,
        )
        self._convention = Measured(families.family(
            Histogram,
            f"rpc_{side}_call_duration_seconds",
            f"How long calls took on the {side}, by OpenTelemetry's convention.",
            ("rpc_system_name", "rpc_method", "rpc_status_code"),
            buckets=options.buckets_s,
        ), options.buckets_s) if options.convention else None  # fmt: skip
        self._sizes = [  # the names of go-grpc-prometheus' EnableMsgSizeReceivedBytesHistogram
            histogram(
                f"msg_size_{way}_bytes", f"How large the messages were that the {side} {way}.", BUCKETS_BYTES
            )
            for way in ("received", "sent")
            if options.sizes
        ]
        self._codes: Totals[Labels] = Totals()
        self._messages: tuple[Totals[Labels], Totals[Labels]] = Totals(), Totals()

    def fold(self, call: Call, led: Led) -> None:
        """Take a call that has ended."""
        labels = self._labels(call)
        received, sent = self._messages
        self._codes[*labels, call.status] += 1
        received[labels] += call.received
        sent[labels] += call.sent
        duration_s = call.duration_s
        self._seconds.observe(labels, duration_s, call, led)
        if call.deadline_s:
            self._deadline.observe(labels, min(duration_s / call.deadline_s, 1.0))
        if call.first_ns and call.method.streams_responses:
            self._first.observe(labels, call.first_ns / 1e9)
        for measured, sizes in zip(self._sizes, call.sizes, strict=False):  # there are none unless asked for
            for size in sizes:
                measured.observe(labels, size)
        if self._convention is not None:
            self._convention.observe(("grpc", call.method.full_name, call.status), duration_s, call, led)

    def lose(self, method: Method, status: str, count: int) -> None:
        """Count calls of which nothing else is known any more."""
        self._codes[*_plain(method), *(OTHER for _ in self._extra), status] += count

    def publish(self, live: Sequence[Call]) -> None:
        """Bring the families up to date; live are the calls that have not been folded."""
        in_flight: Totals[Labels] = Totals()
        received, sent = (totals.copy() for totals in self._messages)
        for call in live:
            labels = self._labels(call)
            in_flight[labels] += 1
            received[labels] += call.received
            sent[labels] += call.sent
        started = in_flight.copy()
        for (*parts, _), count in self._codes.items():
            started[tuple(parts)] += count
        for labels in started:  # what there is at all is there from zero
            self._codes[*labels, "OK"] += 0
            for totals in (in_flight, received, sent):
                totals[labels] += 0
        for running, totals in (
            (self._started, started),
            (self._handled, self._codes),
            (self._in_flight, in_flight),
            (self._received, received),
            (self._sent, sent),
        ):
            running.publish(totals)

    def declare(self, method: Method, codes: Sequence[str]) -> None:
        """Put the method's series at zero, so that the first error is visible to rate()."""
        for values in product(*(sorted(label.values) for label in self._extra)):
            labels = (*_plain(method), *values)
            for running in (self._started, self._in_flight, self._received, self._sent):
                running.child(labels)
            for histogram in (self._seconds, self._deadline):
                histogram.child(*labels)
            for code in codes:
                self._handled.child((*labels, code))

    def _labels(self, call: Call) -> Labels:
        plain = _plain(call.method)
        return (*plain, *(label.value(call) for label in self._extra)) if self._extra else plain


def _plain(method: Method) -> Labels:
    return method.kind, method.service, method.name


class PoolMetrics:
    """How busy the thread pool of a threaded server is."""

    def __init__(self, families: Families) -> None:
        self.workers = families.family(Gauge, "grpc_server_pool_workers", "Threads that the server has.")
        self._busy = Running(families.family(Gauge, "grpc_server_pool_busy", "Threads that serve a call."))
        self._queue = families.family(
            Histogram,
            "grpc_server_pool_queue_seconds",
            "How long calls waited for a thread.",
            buckets=BUCKETS_S,
        )

    def fold(self, call: Call) -> None:
        """Take a call that has ended."""
        if call.queued_s is not None:
            self._queue.observe(call.queued_s)

    def publish(self, live: Sequence[Call]) -> None:
        """Bring the gauge up to date."""
        self._busy.publish({(): sum(call.queued_s is not None for call in live)})


class RequestMetrics:
    """The metrics of HTTP requests.

    Convention: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
    """

    def __init__(self, families: Families, options: Options) -> None:
        family = families.family(
            Histogram,
            "http_server_request_duration_seconds",
            "How long HTTP requests took.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=options.http_buckets_s,
        )
        self._seconds = Measured(family, options.http_buckets_s)
        self._active = Running(
            families.family(
                Gauge,
                "http_server_active_requests",
                "HTTP requests that have not ended.",
                ("http_request_method",),
            )
        )

    def fold(self, request: Request, led: Led) -> None:
        """Take a request that has ended."""
        labels = (request.endpoint.method, request.endpoint.route, request.status)
        self._seconds.observe(labels, request.duration_s, request, led)

    def lose(self, endpoint: Endpoint, status: str, count: int) -> None:
        """Requests have no counter but their histogram, and its duration is lost."""

    def publish(self, live: Sequence[Request]) -> None:
        """Bring the gauge up to date."""
        self._active.publish(Totals((request.method,) for request in live))


class Metrics:
    """The signal that counts and times records.

    Every read of the registry is of one moment: each record is live, folded or lost, and never two of them.
    """

    name = "metrics"

    def __init__(self, journal: Journal, families: Families, own: OwnMetrics, options: Options) -> None:
        self._journal = journal
        self._families = families
        self._options = options
        self._own = own
        self._views: dict[str, Any] = {}
        families.attach(lambda: journal.flush(FRESH_S), self._publish)
        self._start()

    def _start(self) -> None:
        """Where processes share their metrics, nobody reads this registry: publish to their files."""
        self._is_over = threading.Event()
        if shared():
            threading.Thread(target=self._run, name="telemetry-metrics", daemon=True).start()

    def _run(self) -> None:
        while not self._is_over.wait(PUBLISH_S):
            self.publish()

    def publish(self) -> None:
        """Bring the families up to date, as a read of the registry does."""
        try:
            with self._families.lock:
                self._publish()
        except Exception:
            self._journal.tally.failure(self.name)

    def shutdown(self) -> None:
        """Publish for the last time."""
        self._is_over.set()
        if shared():
            self.publish()

    def view(self, side: str) -> Any:
        """The metrics of a side, "server", "client", "pool" or "http"; its families are made at first use."""
        with self._families.lock:
            if side not in self._views:
                self._views[side] = self._make(side)
            return self._views[side]

    def begin(self) -> None:
        """Start from nothing, as a forked child does."""
        self._families.forget()
        self._own.begin()
        self._views = {side: self._make(side) for side in self._views}
        self._start()

    def record(self, batch: Sequence[Record]) -> None:
        """Fold the batch; its records are live no more, whatever becomes of them here."""
        led: Led = set()
        with self._families.lock:
            for record in reversed(batch):  # the last of each bucket leads to its trace
                self._fold(record, led)
            self._journal.live.difference_update(batch)

    def _make(self, side: str) -> Any:
        match side:
            case "pool":
                return PoolMetrics(self._families)
            case "http":
                return RequestMetrics(self._families, self._options)
        return CallMetrics(side, self._families, self._options)

    def _fold(self, record: Record, led: Led) -> None:
        try:
            side = record.operation.side
            (self._views.get(side) or self.view(side)).fold(record, led)
            if isinstance(record, Call) and record.queued_s is not None:
                self.view("pool").fold(record)
        except Exception:
            self._journal.tally.failure(self.name)

    def _publish(self) -> None:
        journal = self._journal
        with journal.losing:
            live = tuple(journal.live)
            lost, journal.lost = journal.lost, Totals()
        for (operation, status), count in lost.items():
            self.view(operation.side).lose(operation, status, count)
        for side, view in self._views.items():
            of = "server" if side == "pool" else side
            view.publish([record for record in live if record.operation.side == of])
        self._own.publish()


def exemplar(record: Record) -> dict[str, str] | None:
    """The labels that lead from a measurement to its trace, if there is one to be led to."""
    if record.span is None:
        return None
    ids = record.span.get_span_context()
    if not ids.trace_flags.sampled:
        return None
    return {"trace_id": f"{ids.trace_id:032x}", "span_id": f"{ids.span_id:016x}"}
