"""What the environment says: the pair's own settings, where traces go, and what the services are given."""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field

from services.settings import ServiceSettings

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
STABLE = ("http", "database")


class Settings(ServiceSettings):
    """The settings of the pair, besides those of each of its services."""

    prometheus_port: int = Field(9090, ge=1, le=65535, description="Port of Prometheus beside the pair")
    traces_port: int = Field(
        5001, ge=1, le=65535, description="Port, on loopback, of the page of traces that `make run` serves"
    )


class Destination(NamedTuple):
    """Whether the traces come to this command, and the words that say where they go."""

    embedded: bool
    words: str


def destination(environ: Mapping[str, str], *, quiet: bool) -> Destination:
    """Read OpenTelemetry's own variables; the embedded receiver is for those who set none of them."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Destination(False, "off (OTEL_SDK_DISABLED)")
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return Destination(False, "off (OTEL_TRACES_EXPORTER)")
    for variable in ENDPOINTS:
        if environ.get(variable):
            return Destination(False, f"sent to {environ[variable]} ({variable})")
    return Destination(True, "not shown (--quiet)" if quiet else "printed here, each when it is finished")


def export_settings(environ: Mapping[str, str], endpoint: str) -> dict[str, str]:
    """What makes a service export to the embedded receiver, soon after a span ends."""
    no_proxy = environ.get("no_grpc_proxy") or environ.get("no_proxy") or ""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": environ.get("OTEL_BSP_SCHEDULE_DELAY") or "300",
        # gRPC would send even calls to this machine through the proxy that http_proxy names.
        "no_grpc_proxy": ",".join(filter(None, [no_proxy, "127.0.0.1", "localhost"])),
    }


def stable_names(environ: Mapping[str, str]) -> dict[str, str]:
    """What makes OpenTelemetry's instrumentations use the stable names; an existing choice is kept.

    SQLAlchemy's reads nothing but this variable, so it has to be there when the process starts.
    """
    chosen = [word.strip() for word in environ.get(OPT_IN, "").split(",") if word.strip()]
    missing = [name for name in STABLE if not any(word.split("/")[0] == name for word in chosen)]
    return {OPT_IN: ",".join(chosen + missing)}
