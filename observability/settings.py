"""OpenTelemetry's variables, and one of ours, by its specification's rules.

What cannot be read is warned of and ignored. Rules: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points

from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)

PROTOCOLS = {"grpc": ("gzip", "none"), "http/protobuf": ("deflate", "gzip", "none")}  # and their compressions
GRPC_ENDPOINT = "http://localhost:4317"
SAMPLERS: dict[str, Sampler] = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "parentbased_always_on": DEFAULT_ON,
    "parentbased_always_off": DEFAULT_OFF,
}
RATIO_SAMPLERS: dict[str, Callable[[float], Sampler]] = {
    "traceidratio": TraceIdRatioBased,
    "parentbased_traceidratio": ParentBasedTraceIdRatio,
}
OWN_EXPORTERS = ("otlp", "console", "none")  # written in any case
EXPORTERS_GROUP = "opentelemetry_traces_exporter"
SAMPLERS_GROUP = "opentelemetry_traces_sampler"
COUNT = 128
MAX_NUMBER = 2**31 - 1  # what a timeout in any unit can be

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Edge:
    """How a signal leaves the process; times are in seconds.

    `exporters` are names, none of them "none"; `endpoint` and `insecure` are those of OTLP over gRPC.
    """

    exporters: tuple[str, ...]
    protocol: str
    endpoint: str
    insecure: bool
    compression: str
    timeout_s: float
    max_queue_size: int
    max_export_batch_size: int
    schedule_delay_s: float


@dataclass(frozen=True)
class Settings:
    """What the environment says; `service_name` is None where the code's name holds.

    `lines` is None where log lines are not exported.
    """

    sdk_disabled: bool
    service_name: str | None
    spans: Edge
    lines: Edge | None
    old_rpc_names: bool
    excluded_services: tuple[str, ...]
    excluded_urls: str
    public_endpoint: bool


def read() -> Settings:
    """Read the environment. Never raises, and never writes it."""
    installed = {entry.name for entry in entry_points(group=EXPORTERS_GROUP)}
    spans = _exporters("OTEL_TRACES_EXPORTER", {*OWN_EXPORTERS, *installed}, "otlp")
    # The specification's default is otlp; a service whose lines somebody reads already should not send them.
    lines = _exporters("OTEL_LOGS_EXPORTER", {"otlp", "none"}, "none")
    return Settings(
        sdk_disabled=_boolean("OTEL_SDK_DISABLED"),
        service_name=_text("OTEL_SERVICE_NAME") or None,
        spans=_edge("TRACES", spans, "OTEL_BSP", 5_000),
        lines=_edge("LOGS", lines, "OTEL_BLRP", 1_000) if lines else None,
        old_rpc_names="rpc/dup" in _words("OTEL_SEMCONV_STABILITY_OPT_IN"),
        excluded_services=_words("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES"),
        excluded_urls=_text("OTEL_PYTHON_FLASK_EXCLUDED_URLS") or _text("OTEL_PYTHON_EXCLUDED_URLS"),
        public_endpoint=_boolean("OBSERVABILITY_PUBLIC_ENDPOINT"),
    )


def sampler() -> Sampler:
    """The sampler that OTEL_TRACES_SAMPLER names: one of OpenTelemetry's, or one that is installed."""
    variable = "OTEL_TRACES_SAMPLER"
    name = _text(variable)
    own = name.lower()
    if own in RATIO_SAMPLERS:
        return RATIO_SAMPLERS[own](_ratio("OTEL_TRACES_SAMPLER_ARG"))
    if not name or own in SAMPLERS:
        return SAMPLERS.get(own, DEFAULT_ON)
    installed = entry_points(group=SAMPLERS_GROUP)
    if name not in installed.names:
        known = _listed({*SAMPLERS, *RATIO_SAMPLERS, *installed.names})
        _ignore(variable, f"one of {known}", name)
        return DEFAULT_ON
    try:
        made = installed[name].load()(os.environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
        if isinstance(made, Sampler):
            return made
        logger.error("the sampler %s must be a Sampler, got %r", name, made)
    except Exception:
        logger.exception("the sampler %s cannot be made", name)
    return DEFAULT_ON


def span_limits() -> SpanLimits:
    """The limits of spans. The SDK reads those variables itself, but it raises for what it cannot read."""
    count = _number("OTEL_ATTRIBUTE_COUNT_LIMIT", COUNT)
    length = _number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", SpanLimits.UNSET)
    return SpanLimits(
        max_attributes=count,
        max_span_attributes=_number("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", count),
        max_event_attributes=_number("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", count),
        max_link_attributes=_number("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", count),
        max_events=_number("OTEL_SPAN_EVENT_COUNT_LIMIT", COUNT),
        max_links=_number("OTEL_SPAN_LINK_COUNT_LIMIT", COUNT),
        max_attribute_length=length,
        max_span_attribute_length=_number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length),
    )


def _text(variable: str) -> str:
    """What a variable says; an empty one says nothing."""
    return os.environ.get(variable, "").strip()


def _words(variable: str) -> tuple[str, ...]:
    words = (word.strip() for word in _text(variable).split(","))
    return tuple(word for word in words if word)


def _number(variable: str, default: int, minimum: int = 0) -> int:
    text = _text(variable)
    if not text:
        return default
    digits = text if text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_NUMBER)) else "-1"
    if minimum <= int(digits) <= MAX_NUMBER:
        return int(digits)
    _ignore(variable, f"a whole number of {minimum} to {MAX_NUMBER}", text)
    return default


def _ratio(variable: str) -> float:
    text = _text(variable) or "1"
    try:
        if 0 <= (ratio := float(text)) <= 1:
            return ratio
    except ValueError:
        pass
    _ignore(variable, "a number of 0 to 1", text)
    return 1.0


def _boolean(variable: str) -> bool:
    text = _text(variable)
    if text.lower() not in {"", "true", "false"}:
        _ignore(variable, "true or false", text)
    return text.lower() == "true"


def _edge(signal: str, exporters: tuple[str, ...], queue: str, delay_ms: int) -> Edge:
    """What is said of the exporter of the signal, or else of all exporters, and of the signal's queue."""
    own, common = f"OTEL_EXPORTER_OTLP_{signal}", "OTEL_EXPORTER_OTLP"
    timeout_ms = _number(f"{common}_TIMEOUT", 10_000, minimum=1)
    queue_size = _number(f"{queue}_MAX_QUEUE_SIZE", 2048, minimum=1)
    protocol = _choice((f"{own}_PROTOCOL", f"{common}_PROTOCOL"), PROTOCOLS, "grpc")
    compressions = PROTOCOLS[protocol]
    endpoint = _text(f"{own}_ENDPOINT") or _text(f"{common}_ENDPOINT") or GRPC_ENDPOINT
    return Edge(
        exporters=exporters,
        protocol=protocol,
        endpoint=endpoint,
        insecure=_is_insecure(endpoint, (f"{own}_INSECURE", f"{common}_INSECURE")),
        compression=_choice((f"{own}_COMPRESSION", f"{common}_COMPRESSION"), compressions, "none"),
        timeout_s=_number(f"{own}_TIMEOUT", timeout_ms, minimum=1) / 1e3,
        max_queue_size=queue_size,
        max_export_batch_size=min(_number(f"{queue}_MAX_EXPORT_BATCH_SIZE", 512, minimum=1), queue_size),
        schedule_delay_s=_number(f"{queue}_SCHEDULE_DELAY", delay_ms) / 1e3,
    )


def _choice(variables: tuple[str, str], choices: Iterable[str], default: str) -> str:
    for variable in variables:
        if text := _text(variable):
            if text.lower() in choices:
                return text.lower()
            _ignore(variable, f"one of {_listed(choices)}", text)
    return default


def _is_insecure(endpoint: str, variables: tuple[str, str]) -> bool:
    """Whether gRPC goes without TLS; the endpoint's scheme wins, if it has one."""
    if "://" in endpoint:
        return endpoint.lower().startswith("http://")
    own, common = variables
    return _boolean(own if _text(own) else common)


def _exporters(variable: str, known: set[str], default: str) -> tuple[str, ...]:
    chosen: list[str] = []
    for word in _words(variable):
        name = word.lower() if word.lower() in OWN_EXPORTERS else word
        if name in known:
            chosen.append(name)
        else:
            _ignore(variable, f"a list of {_listed(known)}", word)
    return tuple(name for name in dict.fromkeys(chosen or (default,)) if name != "none")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _ignore(variable: str, must: str, text: str) -> None:
    logger.warning("%s must be %s, got %r; it is ignored", variable, must, text)
