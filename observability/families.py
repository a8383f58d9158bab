"""Metric families that several Telemetry objects can share in one registry."""

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Exemplar

Family = TypeVar("Family", bound=MetricWrapperBase)


class _FirstStays(dict[Any, Any]):
    """The children of a family.

    Garbage may be collected while one is made, a dropped call end by that, and on the same thread want a
    child of the same family: it gets one, hence the RLock, and of two for the same labels the first stays.
    """

    def __setitem__(self, labels: Any, child: Any) -> None:
        self.setdefault(labels, child)


def family(
    kind: type[Family],
    name: str,
    documentation: str,
    labels: Sequence[str],
    registry: CollectorRegistry,
    **options: Any,
) -> Family:
    """The registry's family of that name, made if it is not there yet.

    Where several processes share their metrics, a gauge is the sum of those that live, unless options say
    another multiprocess_mode.

    Raises ValueError when the name is taken by a metric of another kind or with other labels.
    """
    found = registry._names_to_collectors.get(name)  # prometheus_client has no public way to ask
    if found is None:
        if kind is Gauge:
            options = {"multiprocess_mode": "livesum"} | options
        made = kind(name, documentation, labels, registry=registry, **options)
        if labels:
            made._lock, made._metrics = threading.RLock(), _FirstStays()  # type: ignore[assignment]
        return made
    if not isinstance(found, kind) or tuple(found._labelnames) != tuple(labels):
        raise ValueError(f"metric {name} is already registered as another {type(found).__name__}")
    return found


# prometheus_client checks at each call what holds for all: that the metric has its labels, and that those of
# an exemplar are allowed. The two below leave that out, which halves the cost, and so touch what is its own.


def adder(child: Counter | Gauge) -> Callable[[float], None]:
    """What adds to the child: inc, and with a number below zero dec."""
    add: Callable[[float], None] = child._value.inc
    return add


def observer(child: Histogram) -> Callable[[float, dict[str, str] | None], None]:
    """The child's observe; the labels of the exemplar are at most 128 characters together."""
    bounds, buckets, total = child._upper_bounds, child._buckets, child._sum

    def observe(amount: float, exemplar: dict[str, str] | None) -> None:
        total.inc(amount)
        bucket = buckets[bisect_left(bounds, amount)]
        bucket.inc(1)
        if exemplar:
            bucket.set_exemplar(Exemplar(exemplar, amount, time.time()))

    return observe


def shared() -> bool:
    """Whether several processes share their metrics: prometheus_client's multiprocess mode."""
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
