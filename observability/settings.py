"""OpenTelemetry's own variables, as far as its SDK does not read them itself."""

import os

TRACES_EXPORTERS = ("otlp", "none")
STABILITY = "OTEL_SEMCONV_STABILITY_OPT_IN"
STABLE = ("http", "database")


def exports_traces() -> bool:
    """Whether spans go out by OTLP: unless OTEL_TRACES_EXPORTER is none, or the SDK is disabled.

    Raises ValueError when OTEL_TRACES_EXPORTER is anything but otlp or none.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter not in TRACES_EXPORTERS:
        raise ValueError(f"OTEL_TRACES_EXPORTER: {exporter!r} is not allowed; give one of {TRACES_EXPORTERS}")
    return exporter == "otlp" and not is_disabled()


def is_disabled() -> bool:
    """Whether OTEL_SDK_DISABLED is true: no spans are made."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def wants_old_rpc_names() -> bool:
    """Whether OTEL_SEMCONV_STABILITY_OPT_IN has rpc/dup: spans of calls carry the old attributes, too."""
    return "rpc/dup" in [word.strip() for word in os.environ.get(STABILITY, "").split(",")]


def excluded_services() -> list[str]:
    """The services of OTEL_PYTHON_GRPC_EXCLUDED_SERVICES, a list with commas."""
    names = os.environ.get("OTEL_PYTHON_GRPC_EXCLUDED_SERVICES", "").split(",")
    return [name.strip() for name in names if name.strip()]


def choose_stable_conventions() -> None:
    """Ask OpenTelemetry's instrumentations for the stable names; what the variable holds already is kept.

    They read this variable alone, once in a process, when the first of them starts.
    """
    chosen = [word for word in os.environ.get(STABILITY, "").split(",") if word]
    missing = [name for name in STABLE if not any(word.startswith(name) for word in chosen)]
    os.environ[STABILITY] = ",".join(chosen + missing)
