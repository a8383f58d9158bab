"""The log: one JSON line when a call or a request ends, and the lines of Python's logging in the same format.

Lines hold no values of requests, no secrets and no user ids.
"""

import io
import logging
import os
import select
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from json.encoder import JSONEncoder
from typing import Any, TextIO

from opentelemetry.trace import Span, get_current_span

from observability.call import FAULTS, Call, Record
from observability.mailbox import Mailbox
from observability.tally import Tally

MAX_LINE = 64 * 1024
MAX_WAITING = 8 * 1024 * 1024  # characters
BATCH = 256
DELAY_S = 0.05
WARNINGS = frozenset(
    {"FAILED_PRECONDITION", "OUT_OF_RANGE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
)
LOGGING_LEVELS = {"WARNING": "warn", "CRITICAL": "error"}
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
EXPORTER_LOGGERS = "opentelemetry.exporter"
EXPORTER_INTERVAL_S = 60.0


class LogStream:
    """Writes JSON lines to a text stream, on a thread of its own: a reader that stops stops nobody else.

    Lines that do not fit into the queue, or cannot be written, are dropped and counted.
    """

    def __init__(self, stream: TextIO, service: str, tally: Tally) -> None:
        self._stream = stream
        self._service = service
        self._tally = tally
        self._encode = JSONEncoder(ensure_ascii=False, default=_text).encode
        self.lines = Mailbox(
            "logs",
            self._write,
            lambda: tally.failure("logs"),
            limit=MAX_WAITING,
            batch=BATCH,
            delay_s=DELAY_S,
            size=len,
        )

    def put(self, time_ns: int, level: str, event: str, span: Span | None, fields: Mapping[str, Any]) -> None:
        """Write one line: time, level, service, event, the ids of the trace (if there is one), the fields."""
        line: dict[str, Any] = {
            "time": rfc_3339(time_ns), "level": level, "service": self._service, "event": event,
        }  # fmt: skip
        if span is not None and (ids := span.get_span_context()).is_valid:
            line["trace_id"] = f"{ids.trace_id:032x}"
            line["span_id"] = f"{ids.span_id:016x}"
        text = self._encode(line | {key: value for key, value in fields.items() if key not in line})
        if len(text) > MAX_LINE:
            text = self._encode(line | {"event": event[:MAX_LINE], "truncated": True})
        if not self.lines.put(text + "\n", urgent=level == "error"):
            self._tally.add(
                "telemetry_log_lines_dropped", "shutdown" if self.lines.is_closed else "queue_full"
            )

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most timeout_s seconds; what is left is dropped and counted."""
        self._tally.add("telemetry_log_lines_dropped", "shutdown", self.lines.close(timeout_s))

    def _write(self, lines: list[str]) -> None:
        try:
            if type(self._stream) is io.TextIOWrapper:
                # Not through its buffer, whose lock a forked child would find taken if this thread had it.
                _write_all(self._stream.fileno(), "".join(lines).encode(errors="backslashreplace"))
            else:
                self._stream.write("".join(lines))
                self._stream.flush()
        except Exception:
            self._tally.add("telemetry_log_lines_dropped", "write_failed", len(lines))
            raise


class Logs:
    """The signal that writes one line for each record."""

    name = "logs"

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream

    def record(self, batch: Sequence[Record]) -> None:
        """Write the lines of the batch, but for quiet records."""
        for record in batch:
            if record.operation.quiet:
                continue
            level, event, fields = _call(record) if isinstance(record, Call) else _request(record)
            if record.error is not None:
                level = "error"
                fields["stack"] = record.error.stack
            self._stream.put(record.ended_ns, level, event, record.span, fields)


def call_level(call: Call) -> str:
    """How much attention the end of a call needs: info, warn or error."""
    if call.status in FAULTS:
        return "warn" if call.asked else "error"
    return "warn" if call.status in WARNINGS else "info"


def _call(call: Call) -> tuple[str, str, dict[str, Any]]:
    method = call.method
    fields: dict[str, Any] = {"rpc.method": method.full_name}
    if call.asked:
        fields["rpc.method_original"] = call.asked
    if method.address:
        fields["server.address"] = method.address
    fields["status"] = call.status
    fields["duration_ms"] = round(call.duration_ns / 1e6, 3)
    if call.details:
        fields["details"] = call.details
    if call.peer:
        fields["peer"] = call.peer
    if call.deadline_left_s is not None:
        fields["deadline_left_ms"] = round(call.deadline_left_s * 1e3, 3)
    if call.attempts:
        fields["previous_attempts"] = call.attempts
    return call_level(call), f"grpc.{method.side}.call", fields


def _request(request: Any) -> tuple[str, str, dict[str, Any]]:
    fields = {
        "http.request.method": request.endpoint.method,
        "http.route": request.endpoint.route,
        "http.response.status_code": request.code,
        "duration_ms": round(request.duration_ns / 1e6, 3),
    }
    return "error" if request.is_error else "info", "http.server.request", fields


class JsonHandler(logging.Handler):
    """Writes the records of Python's logging in the same format, with the current trace's ids and `extra`."""

    def __init__(self, stream: LogStream) -> None:
        super().__init__()
        self._stream = stream
        self.addFilter(ExporterFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; the event is its message."""
        try:
            fields: dict[str, Any] = {"logger": record.name}
            fields |= {key: value for key, value in vars(record).items() if key not in STANDARD}
            if record.exc_info:
                fields["stack"] = "".join(traceback.format_exception(*record.exc_info))
            level = LOGGING_LEVELS.get(record.levelname, record.levelname.lower())
            self._stream.put(
                int(record.created * 1e9), level, record.getMessage(), get_current_span(), fields
            )
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


def rfc_3339(time_ns: int) -> str:
    """A time in UTC, to the millisecond."""
    second, ns = divmod(time_ns, 1_000_000_000)
    return f"{_second(second)}.{ns // 1_000_000:03d}Z"


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _text(value: object) -> str:
    """A value that JSON does not have, as text."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be printed>"


def _write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # somebody made it non-blocking; wait as a blocking write would
            select.select([], [fd], [])
