"""Traces, metrics and logs for gRPC and Flask services, told from one record of each call."""

from observability.telemetry import Telemetry

__all__ = ["Telemetry"]
