"""The metrics of calls, under the names that go-grpc-prometheus gave them, and the server they are read from.

Names: https://github.com/grpc-ecosystem/go-grpc-middleware/tree/main/providers/prometheus
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from observability.call import Call, End, Method, Start
from observability.families import family

LABELS = ("grpc_type", "grpc_service", "grpc_method")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The signal that counts and times the calls of one side ("server" or "client")."""

    name = "metrics"
    loud = False

    def __init__(self, side: str, registry: CollectorRegistry) -> None:
        prefix = f"grpc_{side}"
        self._started = family(
            Counter, f"{prefix}_started_total", f"Calls started on the {side}.", LABELS, registry
        )
        self._handled = family(
            Counter,
            f"{prefix}_handled_total",
            f"Calls ended on the {side}, by status.",
            (*LABELS, "grpc_code"),
            registry,
        )
        self._seconds = family(
            Histogram,
            f"{prefix}_handling_seconds",
            f"How long calls took on the {side}.",
            LABELS,
            registry,
            buckets=BUCKETS_S,
        )
        self._in_flight = family(
            Gauge, f"{prefix}_in_flight", f"Calls on the {side} that have not ended.", LABELS, registry
        )
        self._received = family(
            Counter, f"{prefix}_msg_received_total", f"Messages that the {side} received.", LABELS, registry
        )
        self._sent = family(
            Counter, f"{prefix}_msg_sent_total", f"Messages that the {side} sent.", LABELS, registry
        )

    def bind(self, method: Method) -> Start:
        """The method's label children are looked up here, once."""
        labels = (method.kind, method.service, method.name)
        started, in_flight = self._started.labels(*labels), self._in_flight.labels(*labels)
        seconds = self._seconds.labels(*labels)
        received, sent = self._received.labels(*labels), self._sent.labels(*labels)
        codes = {"OK": self._handled.labels(*labels, "OK")}

        def end(call: Call) -> None:
            in_flight.dec()
            if (handled := codes.get(call.status)) is None:
                handled = codes[call.status] = self._handled.labels(*labels, call.status)
            handled.inc()
            seconds.observe(call.duration_s, exemplar(call.trace_id, call.span_id) if call.sampled else None)
            received.inc(call.received)
            sent.inc(call.sent)

        def start(_: Call) -> End:
            started.inc()
            in_flight.inc()
            return end

        return start

    def declare(self, method: Method, codes: Iterable[str]) -> None:
        """Put the method's series at zero, so that the first error is visible to rate()."""
        self.bind(method)
        for code in codes:
            self._handled.labels(method.kind, method.service, method.name, code)


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
