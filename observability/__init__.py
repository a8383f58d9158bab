"""Traces, metrics and log lines for gRPC and Flask services, made from one record of each call."""

from observability.grpc.deadline import DeadlineInterceptor
from observability.grpc.errors import AioErrorInterceptor, ErrorInterceptor
from observability.signals.metrics import ExtraLabel
from observability.telemetry import Telemetry

__version__ = "0.1.0"
__all__ = ["AioErrorInterceptor", "DeadlineInterceptor", "ErrorInterceptor", "ExtraLabel", "Telemetry"]
