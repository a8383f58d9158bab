"""The lines of the log as OpenTelemetry's log records, sent by OTLP beside those on standard output.

Records have the fields of the line as attributes, and the ids of its span as the data model has them. The
event of a call or a request is the record's name; the body says which it was and how it ended.
Source: https://opentelemetry.io/docs/specs/otel/logs/data-model/
"""

import logging
from collections.abc import Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from observability.settings import Edge
from observability.signals.export import ExportQueue
from observability.signals.exporters import grpc_options
from observability.signals.line import Line, encoded
from observability.tally import Tally

SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
}
# What the body of a call or a request is made of.
SUMMARY = ("rpc.method", "status", "http.request.method", "http.route", "http.response.status_code")
SCOPE = InstrumentationScope("observability")
INT_64 = range(-(2**63), 2**63)

logger = logging.getLogger(__name__)


class LineQueue(ExportQueue[Line]):
    """Takes lines; they become records on its thread."""

    def __init__(self, edge: Edge, resource: Resource, tally: Tally) -> None:
        self._resource = resource
        super().__init__("log_records", lambda: _made(edge), self._export_lines, edge, tally)

    def _export_lines(self, exporter: LogRecordExporter, lines: Sequence[Line]) -> tuple[int, int]:
        done = exporter.export([self._record(line) for line in lines]) is LogRecordExportResult.SUCCESS
        return (len(lines), 0) if done else (0, len(lines))

    def _record(self, line: Line) -> ReadableLogRecord:
        context = None if line.span is None else set_span_in_context(NonRecordingSpan(line.span))
        summary = _summary(line)
        record = LogRecord(
            timestamp=line.time_ns,
            observed_timestamp=line.time_ns,
            context=context,
            severity_text=line.level,
            severity_number=SEVERITIES.get(line.level, SeverityNumber.UNSPECIFIED),
            body=_sound(summary or line.event),
            event_name=line.event if summary else None,
            attributes={_sound(key): _value(value) for key, value in line.fields.items()},
        )
        return ReadableLogRecord(record, self._resource, SCOPE)


def _summary(line: Line) -> str:
    """Which call or request it was and how it ended; nothing for a line of Python's logging."""
    if "logger" in line.fields:
        return ""
    return " ".join(str(line.fields[key]) for key in SUMMARY if key in line.fields)


def _value(value: Any) -> str | bool | int | float:
    if isinstance(value, bool | float) or (isinstance(value, int) and value in INT_64):
        return value
    return _sound(value if isinstance(value, str) else encoded(value))


def _sound(text: str) -> str:
    """Text that protobuf can encode: lone surrogates are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _made(edge: Edge) -> list[LogRecordExporter]:
    try:
        return [_exporter(edge)]
    except Exception as error:
        logger.error("log lines are not exported by otlp: %s", error)
        return []


def _exporter(edge: Edge) -> LogRecordExporter:
    """Configured by OTEL_EXPORTER_OTLP_LOGS_* and OTEL_EXPORTER_OTLP_*."""
    if edge.protocol == "grpc":
        return OTLPLogExporter(**grpc_options(edge))
    try:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
    except ImportError:
        raise RuntimeError(
            f"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL {edge.protocol} needs the extra `http` of this package"
        ) from None
    return HttpExporter(timeout=edge.timeout_s, compression=Compression(edge.compression))
