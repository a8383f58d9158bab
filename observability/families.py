"""Metric families that several Telemetry objects can share in one registry."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics import MetricWrapperBase

Family = TypeVar("Family", bound=MetricWrapperBase)


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
        return kind(name, documentation, labels, registry=registry, **options)
    if not isinstance(found, kind) or tuple(found._labelnames) != tuple(labels):
        raise ValueError(f"metric {name} is already registered as another {type(found).__name__}")
    return found


def shared() -> bool:
    """Whether several processes share their metrics: prometheus_client's multiprocess mode."""
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
