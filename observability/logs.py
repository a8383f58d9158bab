"""The log of a call: one JSON line when it ends. Every other line has the same format, with the trace id.

Lines hold no values of requests, no secrets and no user ids.
"""

import logging
import threading
import time
import traceback
from collections import deque
from json.encoder import JSONEncoder, encode_basestring
from typing import Any, TextIO

from opentelemetry.trace import get_current_span

from observability.call import OTHER, Call, Method, Start

MAX_DETAILS = 256
CALL_LEVELS = {
    "OK": "info",
    "CANCELLED": "info",
    "NOT_FOUND": "info",
    "INVALID_ARGUMENT": "info",
    "ALREADY_EXISTS": "info",
    "PERMISSION_DENIED": "info",
    "UNAUTHENTICATED": "info",
    "FAILED_PRECONDITION": "warn",
    "OUT_OF_RANGE": "warn",
    "ABORTED": "warn",
    "RESOURCE_EXHAUSTED": "warn",
    "DEADLINE_EXCEEDED": "warn",
}
LOGGING_LEVELS = {"WARNING": "warn", "CRITICAL": "error"}
EXPORTER_LOGGERS = "opentelemetry.exporter"
EXPORTER_INTERVAL_S = 60.0


class LogStream:
    """Writes JSON lines to a text stream, one write a line, so that threads do not mix theirs.

    In the midst of a write garbage may be collected, and a dropped call end with a line by that: the write
    that is under way takes it along.
    """

    def __init__(self, stream: TextIO, service: str) -> None:
        self._stream, self._service = stream, encode_basestring(service)
        self._lines: deque[str] = deque()
        self._lock, self._is_writing = threading.RLock(), False
        self._encode = JSONEncoder(ensure_ascii=False, default=str).encode
        self._known = (-1, "")  # the last second, and how it is written

    def write(self, level: str, event: str, trace_id: str, span_id: str, fields: dict[str, Any]) -> None:
        """Write one line: time, level, service, event, the ids of the trace (if there is one), the fields."""
        rest = f", {self._encode(fields)[1:-1]}" if fields else ""
        self.write_encoded(level, encode_basestring(event), trace_id, span_id, rest)

    def write_encoded(self, level: str, event: str, trace_id: str, span_id: str, rest: str) -> None:
        """The same with the event and the fields as JSON already, the fields each after a comma."""
        ids = f', "trace_id": "{trace_id}", "span_id": "{span_id}"' if trace_id else ""
        self._lines.append(
            f'{{"time": "{self._now()}", "level": "{level}", "service": {self._service},'
            f' "event": {event}{ids}{rest}}}\n'
        )
        with self._lock:
            if not self._is_writing:
                self._write_lines()

    def _write_lines(self) -> None:
        self._is_writing = True
        try:
            while self._lines:
                self._stream.write(self._lines.popleft())
                self._stream.flush()
        finally:
            self._is_writing = False

    def _now(self) -> str:
        second, ms = divmod(time.time_ns() // 1_000_000, 1000)
        known = self._known
        if known[0] != second:
            known = self._known = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{known[1]}.{ms:03d}Z"


class CallLog:
    """The signal that writes one line when a call ends."""

    name = "logs"
    loud = True

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream

    def bind(self, method: Method) -> Start:
        """The fields that are the same for each call of the method are made here, once."""
        event = f'"grpc.{method.side}.call"'
        same = f', "rpc.method": {encode_basestring(method.full_name)}'
        if method.address:
            same += f', "server.address": {encode_basestring(method.address)}'
        write = self._stream.write_encoded

        def end(call: Call) -> None:
            level = "info" if call.status == "OK" else call_level(call)
            write(level, event, call.trace_id, call.span_id, same + _fields(call))

        return lambda _: end


def call_level(call: Call) -> str:
    """How much the end of a call asks for attention: info, warn or error."""
    if call.status == "UNIMPLEMENTED" and call.method.name == OTHER:
        return "warn"
    return CALL_LEVELS.get(call.status, "error")


def _fields(call: Call) -> str:
    """The fields as JSON; written out, because a JSON encoder costs more than all else of the line."""
    fields = f', "status": "{call.status}", "duration_ms": {call.duration_ns / 1e6:.3f}'
    if call.details:
        fields += f', "details": {encode_basestring(call.details[:MAX_DETAILS])}'
    if call.peer:
        fields += f', "peer": {encode_basestring(call.peer)}'
    if (left_s := call.deadline_left_s) is not None:
        fields += f', "deadline_left_ms": {left_s * 1e3:.3f}'
    if call.attempts:
        fields += f', "previous_attempts": {call.attempts}'
    if call.error is not None:
        fields += f', "stack": {encode_basestring("".join(traceback.format_exception(call.error)))}'
    return fields


class JsonHandler(logging.Handler):
    """Writes the lines of Python's logging in the same format, with the current trace's ids."""

    def __init__(self, stream: LogStream) -> None:
        super().__init__()
        self._stream = stream
        self.addFilter(ExporterFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; the event is its message."""
        try:
            ids = get_current_span().get_span_context()
            trace_id, span_id = (f"{ids.trace_id:032x}", f"{ids.span_id:016x}") if ids.is_valid else ("", "")
            fields: dict[str, Any] = {"logger": record.name}
            if record.exc_info:
                fields["stack"] = "".join(traceback.format_exception(*record.exc_info))
            name = LOGGING_LEVELS.get(record.levelname, record.levelname.lower())
            self._stream.write(name, record.getMessage(), trace_id, span_id, fields)
        except Exception:
            self.handleError(record)


class ExporterFilter(logging.Filter):
    """Lets a telemetry exporter complain once a minute: it would do so for each batch while it is down."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if not record.name.startswith(EXPORTER_LOGGERS):
            return True
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + EXPORTER_INTERVAL_S
        return True
