"""The metrics of calls, under the names that go-grpc-prometheus gave them, and the server they are read from.

Names: https://github.com/grpc-ecosystem/go-grpc-middleware/tree/main/providers/prometheus
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from observability.call import OTHER, Call, End, Method, Start
from observability.families import adder, family, observer

LABELS = ("grpc_type", "grpc_service", "grpc_method")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
BUCKETS_RATIO = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class ExtraLabel:
    """A label of one's own on the metrics of calls, from a bounded set.

    of tells a call's value when the call starts; one that is not among values becomes `_OTHER`.
    """

    values: frozenset[str]
    of: Callable[[Call], str]

    def value(self, call: Call) -> str:
        """The call's value."""
        value = self.of(call)
        return value if value in self.values else OTHER


class Metrics:
    """The signal that counts and times the calls of one side ("server" or "client")."""

    name = "metrics"
    loud = False

    def __init__(
        self, side: str, registry: CollectorRegistry, extra: Mapping[str, ExtraLabel] | None = None
    ) -> None:
        self._extra = tuple((extra or {}).values())
        labels = (*LABELS, *(extra or {}))

        def made(kind: Any, name: str, documentation: str, *more: str, **options: Any) -> Any:
            return family(kind, f"grpc_{side}_{name}", documentation, (*labels, *more), registry, **options)

        self._started = made(Counter, "started_total", f"Calls started on the {side}.")
        self._handled = made(Counter, "handled_total", f"Calls ended on the {side}, by status.", "grpc_code")
        self._seconds = made(
            Histogram, "handling_seconds", f"How long calls took on the {side}.", buckets=BUCKETS_S
        )
        self._in_flight = made(Gauge, "in_flight", f"Calls on the {side} that have not ended.")
        self._received = made(Counter, "msg_received_total", f"Messages that the {side} received.")
        self._sent = made(Counter, "msg_sent_total", f"Messages that the {side} sent.")
        self._first = made(
            Histogram,
            "first_message_seconds",
            f"How long the first response of a stream took on the {side}.",
            buckets=BUCKETS_S,
        )
        self._deadline = made(
            Histogram,
            "deadline_used_ratio",
            f"How much of its deadline a call used up on the {side}; 1 is all of it.",
            buckets=BUCKETS_RATIO,
        )

    def bind(self, method: Method) -> Start:
        """The method's label children are looked up here, once for each set of extra values."""
        made: dict[tuple[str, ...], Start] = {}

        def start(call: Call) -> End | None:
            values = tuple(label.value(call) for label in self._extra)
            found = made.get(values)
            if found is None:
                found = made[values] = self._bind(method, values)
            return found(call)

        return start if self._extra else self._bind(method, ())

    def _bind(self, method: Method, values: tuple[str, ...]) -> Start:
        labels = (method.kind, method.service, method.name, *values)
        started, in_flight = adder(self._started.labels(*labels)), adder(self._in_flight.labels(*labels))
        seconds, deadline = observer(self._seconds.labels(*labels)), observer(self._deadline.labels(*labels))
        received, sent = adder(self._received.labels(*labels)), adder(self._sent.labels(*labels))
        first = observer(self._first.labels(*labels)) if method.streams_responses else None
        codes = {"OK": adder(self._handled.labels(*labels, "OK"))}
        streams = method.kind != "unary"

        def end(call: Call) -> None:
            in_flight(-1)
            if (handled := codes.get(call.status)) is None:
                handled = codes[call.status] = adder(self._handled.labels(*labels, call.status))
            handled(1)
            duration_s = call.duration_s
            seconds(duration_s, exemplar(call.trace_id, call.span_id) if call.sampled else None)
            if call.deadline_s:
                deadline(min(duration_s / call.deadline_s, 1.0), None)
            if first is not None and call.first_ns:
                first(call.first_ns / 1e9, None)
            if not streams:  # one message each way: a look at each as it passes would cost more than it tells
                received(call.received)
                sent(call.sent)

        def start(call: Call) -> End:
            started(1)
            in_flight(1)
            if streams:
                call.listen(self.name, message)
            return end

        def message(_: Call, direction: str) -> None:
            (sent if direction == "sent" else received)(1)

        return start

    def declare(self, method: Method, codes: Iterable[str]) -> None:
        """Put the method's series at zero, so that the first error is visible to rate()."""
        for values in product(*(sorted(label.values) for label in self._extra)):
            self._bind(method, values)
            for code in codes:
                self._handled.labels(method.kind, method.service, method.name, *values, code)


class Saturation:
    """The signal that tells how busy the thread pool of a threaded server is.

    workers is the pool's size; 0 leaves it untold.
    """

    name = "saturation"
    loud = False

    def __init__(self, workers: int, registry: CollectorRegistry) -> None:
        size = family(Gauge, "grpc_server_pool_workers", "Threads that the server has.", (), registry)
        size.set(workers)
        self._busy = family(Gauge, "grpc_server_pool_busy", "Threads that serve a call.", (), registry)
        self._queue = family(
            Histogram,
            "grpc_server_pool_queue_seconds",
            "How long calls waited for a thread.",
            (),
            registry,
            buckets=BUCKETS_S,
        )

    def bind(self, method: Method) -> Start:  # noqa: ARG002 (the pool is the same for all methods)
        """The pool is the same for all methods."""

        def end(_: Call) -> None:
            self._busy.dec()

        def start(call: Call) -> End | None:
            if call.queued_s is None:
                return None
            self._busy.inc()
            self._queue.observe(call.queued_s)
            return end

        return start


def exemplar(trace_id: str, span_id: str) -> dict[str, str]:
    """The labels that lead from a measurement to its trace."""
    return {"trace_id": trace_id, "span_id": span_id}


class MetricsServer:
    """Serves a registry at /metrics, in OpenMetrics to who asks for it: exemplars live only there.

    Raises OSError when the port is taken.
    """

    def __init__(self, port: int, host: str, registry: CollectorRegistry) -> None:
        self._server, self._thread = start_http_server(port, host, registry)
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop listening and wait for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
