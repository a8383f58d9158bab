"""The methods: rate, errors and durations by the services' own /metrics, and who calls whom by the traces."""

import math
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from observability.signals.tracing import SERVER_FAULTS
from tools.scrape import Endpoint
from tools.traces.trace import Span, Trace

EVERY_S = 5.0
READS = 60  # five minutes
NAMES = {  # of a sample: the side that it is of, and the label that says what it counts
    "grpc_server_handled_total": ("server", "grpc_code"),
    "grpc_server_handling_seconds_bucket": ("server", "le"),
    "grpc_client_handled_total": ("client", "grpc_code"),
    "grpc_client_handling_seconds_bucket": ("client", "le"),
    "http_server_request_duration_seconds_count": ("server", "http_response_status_code"),
    "http_server_request_duration_seconds_bucket": ("server", "le"),
}


class Place(NamedTuple):
    """Which series a value is of: a bucket of durations (its bound, in seconds), or a status."""

    service: str
    side: str
    method: str
    what: float | str


Values = Mapping[Place, float]


@dataclass(frozen=True)
class Method:
    """A method in the last `seconds`: how many calls ended with each status, and how many in each bucket."""

    service: str
    side: str
    name: str
    seconds: float
    statuses: Mapping[str, int]
    buckets: Mapping[float, float]

    @property
    def count(self) -> int:
        """How many calls ended."""
        return sum(self.statuses.values())

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.count / self.seconds

    @property
    def errors(self) -> float:
        """The share of calls that failed, 0 to 1: for a server its own faults, for a client all but OK."""
        failed = sum(count for status, count in self.statuses.items() if self._is_error(status))
        return failed / self.count if self.count else 0.0

    def quantile_ms(self, share: float) -> float:
        """The duration within which that share of the calls ended, interpolated as Prometheus does."""
        wanted = share * max(self.buckets.values(), default=0)
        below_s, below = 0.0, 0.0
        for bound_s, count in sorted(self.buckets.items()):
            if count >= wanted > below:
                inside = (wanted - below) / (count - below)
                return 1e3 * (below_s if bound_s == math.inf else below_s + (bound_s - below_s) * inside)
            below_s, below = bound_s, count
        return 0.0

    def _is_error(self, status: str) -> bool:
        if status.isdecimal():
            return status >= "500"
        return status in SERVER_FAULTS if self.side == "server" else status != "OK"


class Recent:
    """Reads /metrics of each service, by its name, every few seconds, until it is closed."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._reads: deque[tuple[float, Values]] = deque([(time.monotonic(), {})], READS + 1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-reader", daemon=True)
        self._thread.start()

    def methods(self) -> list[Method]:
        """Each method that was called in the last minutes."""
        with self._lock:
            (then_s, before), now = self._reads[0], self._read()
            seconds = max(time.monotonic() - then_s, 1.0)
        # A service that was started again counts from zero.
        lower = {place: before.get(place, 0.0) for place in now if now[place] >= before.get(place, 0.0)}
        return methods({place: value - lower.get(place, 0.0) for place, value in now.items()}, seconds)

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            with self._lock:
                self._reads.append((time.monotonic(), self._read()))

    def _read(self) -> Values:
        """All values now; those of a service that does not answer are as they were."""
        before, values = self._reads[-1][1], defaultdict[Place, float](float)
        for service, endpoint in self._endpoints.items():
            try:
                text = endpoint.read()
            except OSError:
                values.update({place: value for place, value in before.items() if place.service == service})
                continue
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name in NAMES:
                        values[place_of(service, sample.name, sample.labels)] += sample.value
        return values


def methods(grown: Values, seconds: float) -> list[Method]:
    """Those that were called, by how much each of their series has grown in so many seconds."""
    parts: dict[tuple[str, str, str], dict[float | str, float]] = {}
    for place, growth in grown.items():
        if growth:
            parts.setdefault(place[:3], {})[place.what] = growth
    found = [Method(*name, seconds, *_parted(each)) for name, each in sorted(parts.items())]
    return [method for method in found if method.count]


def place_of(service: str, name: str, labels: Mapping[str, str]) -> Place:
    """Which value a sample is; its name is one of NAMES."""
    side, label = NAMES[name]
    what = float(labels[label]) if label == "le" else labels[label]
    if "grpc_method" in labels:
        return Place(service, side, f"{labels['grpc_service']}/{labels['grpc_method']}", what)
    return Place(service, side, f"{labels['http_request_method']} {labels['http_route']}", what)


def _parted(parts: Mapping[float | str, float]) -> tuple[dict[str, int], dict[float, float]]:
    statuses = {what: round(value) for what, value in parts.items() if isinstance(what, str)}
    return statuses, {what: value for what, value in parts.items() if isinstance(what, float)}


class Call(NamedTuple):
    """Who calls whom, by what name."""

    caller: str
    called: str
    name: str


class Calls(NamedTuple):
    """How often a call was made, how often it failed, and how long the slowest took."""

    made: int
    failed: int
    slowest_ms: float


def calls(traces: Iterable[Trace]) -> Mapping[Call, Calls]:
    """What the traces say of who calls whom."""
    found: dict[Call, list[Span]] = {}
    for trace in traces:
        for call, span in _calls_of(trace):
            found.setdefault(call, []).append(span)
    return {
        call: Calls(
            len(spans),
            sum(span.failed for span in spans),
            max(span.milliseconds for span in spans),
        )
        for call, spans in sorted(found.items())
    }


def _calls_of(trace: Trace) -> Iterable[tuple[Call, Span]]:
    """Each call once: as the called recorded it, or as the caller did where the called records nothing."""
    by_id = {span.span_id: span for span in trace.spans}
    answered = Counter(span.parent_id for span in trace.spans if span.kind == "server")
    for span in trace.spans:
        if span.kind == "server":
            caller = by_id[span.parent_id].service if span.parent_id in by_id else "outside"
            yield Call(caller, span.service, span.name), span
        elif span.kind == "client" and span.span_id not in answered:
            said = span.attributes
            called = said.get("db.system.name") or said.get("server.address") or "unknown"
            yield Call(span.service, called, span.name), span
