"""OpenTelemetry's variables, by its specification's rules: what cannot be read is warned of and ignored.

Rules: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import Sampler

PROTOCOLS = ("grpc", "http/protobuf")
SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
EXPORTERS = ("otlp", "console", "none")
EXPORTERS_GROUP = "opentelemetry_traces_exporter"
SAMPLERS_GROUP = "opentelemetry_traces_sampler"
COUNT = 128
LIMITS = {
    "max_attributes": ("OTEL_ATTRIBUTE_COUNT_LIMIT", COUNT),
    "max_span_attributes": ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", COUNT),
    "max_event_attributes": ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", COUNT),
    "max_link_attributes": ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", COUNT),
    "max_events": ("OTEL_SPAN_EVENT_COUNT_LIMIT", COUNT),
    "max_links": ("OTEL_SPAN_LINK_COUNT_LIMIT", COUNT),
    "max_attribute_length": ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", SpanLimits.UNSET),
    "max_span_attribute_length": ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", SpanLimits.UNSET),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the environment says; times are in seconds.

    `service_name` is None where the code's name holds; `traces_exporters` are names, none of them "none".
    """

    sdk_disabled: bool
    service_name: str | None
    traces_exporters: tuple[str, ...]
    otlp_protocol: str
    otlp_timeout_s: float
    max_queue_size: int
    max_export_batch_size: int
    schedule_delay_s: float
    old_rpc_names: bool
    excluded_services: tuple[str, ...]
    excluded_urls: str


def read() -> Settings:
    """Read the environment. Never raises, and never writes it."""
    queue_size = _number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, minimum=1)
    batch_size = _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, minimum=1)
    timeout_ms = _number("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000, minimum=1)
    return Settings(
        sdk_disabled=_text("OTEL_SDK_DISABLED").lower() == "true",
        service_name=_text("OTEL_SERVICE_NAME") or None,
        traces_exporters=_exporters(),
        otlp_protocol=_protocol(),
        otlp_timeout_s=_number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", timeout_ms, minimum=1) / 1e3,
        max_queue_size=queue_size,
        max_export_batch_size=min(batch_size, queue_size),
        schedule_delay_s=_number("OTEL_BSP_SCHEDULE_DELAY", 5_000) / 1e3,
        old_rpc_names="rpc/dup" in _words("OTEL_SEMCONV_STABILITY_OPT_IN"),
        excluded_services=_words("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES"),
        excluded_urls=_text("OTEL_PYTHON_FLASK_EXCLUDED_URLS") or _text("OTEL_PYTHON_EXCLUDED_URLS"),
    )


def sampler() -> Sampler | None:
    """The sampler that is installed under the name of OTEL_TRACES_SAMPLER; None leaves the choice to the SDK,
    which knows its own by their names.
    """
    name = _text("OTEL_TRACES_SAMPLER")
    if not name or name.lower() in SAMPLERS:
        return None
    for entry in entry_points(group=SAMPLERS_GROUP, name=name):
        try:
            made = entry.load()(os.environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
            if isinstance(made, Sampler):
                return made
        except Exception:
            logger.exception("the sampler %s cannot be made", name)
    return None


def span_limits() -> SpanLimits:
    """The limits of spans. The SDK reads those variables itself, but it raises for what it cannot read."""
    ignored: dict[str, Any] = {}
    for argument, (variable, default) in LIMITS.items():
        if _number(variable, None) is None and _text(variable):
            ignored[argument] = default
    return SpanLimits(**ignored)


def _text(variable: str) -> str:
    """What a variable says; an empty one says nothing."""
    return os.environ.get(variable, "").strip()


def _words(variable: str) -> tuple[str, ...]:
    words = (word.strip() for word in _text(variable).split(","))
    return tuple(word for word in words if word)


def _number(variable: str, default: Any, minimum: int = 0) -> Any:
    text = _text(variable)
    if not text:
        return default
    if text.isdecimal() and text.isascii() and int(text) >= minimum:
        return int(text)
    _ignore(variable, f"a whole number of at least {minimum}", text)
    return default


def _protocol() -> str:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if text := _text(variable).lower():
            if text in PROTOCOLS:
                return text
            _ignore(variable, f"one of {', '.join(PROTOCOLS)}", text)
    return PROTOCOLS[0]


def _exporters() -> tuple[str, ...]:
    variable = "OTEL_TRACES_EXPORTER"
    installed = {entry.name for entry in entry_points(group=EXPORTERS_GROUP)}
    chosen: list[str] = []
    for word in _words(variable):
        name = word.lower() if word.lower() in EXPORTERS else word
        if name in EXPORTERS or name in installed:
            chosen.append(name)
        else:
            _ignore(variable, f"a list of {_listed({*EXPORTERS, *installed})}", word)
    return tuple(name for name in chosen or ("otlp",) if name != "none")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _ignore(variable: str, must: str, text: str) -> None:
    logger.warning("%s must be %s, got %r; it is ignored", variable, must, text)
