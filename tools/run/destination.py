"""Where the traces go: off, to the user's own receiver, or to the terminal."""

from collections.abc import Mapping
from typing import NamedTuple

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Destination(NamedTuple):
    """Whether the traces come to this terminal, and the words that say where they go."""

    embedded: bool
    words: str


def destination(environ: Mapping[str, str], *, quiet: bool) -> Destination:
    """Read OpenTelemetry's own variables; the embedded receiver is for who sets none of them."""
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
