"""Metric families that several Telemetry objects can share in one registry, read at one moment."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

Family = TypeVar("Family", bound=MetricWrapperBase)


class Families(Collector):
    """Our families in a registry: each read of the registry asks their sources first, and is of one moment.

    A source has two parts: refresh, which may wait a little, and publish, which brings the families up to
    date and is called with the lock held, under which the families are then read.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.lock = threading.RLock()
        self._own = CollectorRegistry()
        self._by_name: dict[str, tuple[type[MetricWrapperBase], tuple[str, ...], Any]] = {}
        self._sources: list[tuple[Callable[[], object], Callable[[], None]]] = []

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "Families":
        """The registry's, made and registered if there is none yet."""
        # prometheus_client has no public way to find what is registered already.
        found = registry._names_to_collectors.get(NAME)
        if isinstance(found, cls):
            return found
        made = cls(registry)
        registry.register(made)
        return made

    def family(
        self,
        kind: type[Family],
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        **options: Any,
    ) -> Family:
        """The family of that name, made if it is not there yet.

        Where several processes share their metrics, a gauge is the sum of those that live, unless options say
        another multiprocess_mode.

        Raises ValueError when the name is taken by a metric of another kind or with other labels.
        """
        with self.lock:
            if name not in self._by_name:
                if kind is Gauge:
                    options = {"multiprocess_mode": "livesum"} | options
                made = kind(name, documentation, labels, registry=self._own, **options)
                self._by_name[name] = kind, tuple(labels), made
            known, its_labels, family = self._by_name[name]
        if known is not kind or its_labels != tuple(labels):
            raise ValueError(
                f"metric {name} must be a {known.__name__} with the labels {its_labels}, "
                f"got a {kind.__name__} with {tuple(labels)}"
            )
        return family  # type: ignore[no-any-return]

    def attach(self, refresh: Callable[[], object], publish: Callable[[], None]) -> None:
        """Ask this source, too, before each read."""
        self._sources.append((refresh, publish))

    def describe(self) -> Iterable[Metric]:
        """One name, by which `of` finds these families."""
        return [Metric(NAME, "", "unknown")]

    def collect(self) -> Iterable[Metric]:
        """All families, as they are at one moment."""
        for refresh, _ in self._sources:
            refresh()
        with self.lock:
            for _, publish in self._sources:
                publish()
            metrics = list(self._own.collect())
        if self._is_described():
            return [metric for metric in metrics if metric.name != TARGET_INFO]
        return metrics

    def _is_described(self) -> bool:
        """Whether OpenTelemetry's Prometheus reader is in the registry and writes target_info.

        OpenMetrics allows one family of a name.
        """
        # There is no public way to ask a registry for its collectors, nor the reader for its option.
        return any(
            getattr(collector, "_disable_target_info", True) is False
            for collector in tuple(self._registry._collector_to_names)
        )

    def forget(self) -> None:
        """Start from nothing, as a forked child does."""
        if not shared():  # where metrics are shared, prometheus_client itself starts new files for a child
            for _, labels, family in self._by_name.values():
                if labels:
                    family.clear()


TARGET_INFO = "target_info"
NAME = "observability_families"


def shared() -> bool:
    """Whether several processes share their metrics: prometheus_client's multiprocess mode."""
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
