"""The log: one JSON line when a call or a request ends, and the lines of Python's logging in the same format.

Lines hold no values of requests, no secrets and no user ids.
"""

import io
import logging
import os
import select
import sys
import time
import traceback
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TextIO

from opentelemetry.trace import Span, get_current_span

from observability.call import FAULTS, Call, Record
from observability.mailbox import Mailbox
from observability.signals.export import ExportQueue
from observability.signals.line import Line, encoded
from observability.signals.redaction import Redaction
from observability.tally import Tally

MAX_LINE = 64 * 1024
MAX_FIELD = 8 * 1024  # of each text that a line that is too long keeps
MAX_WAITING = 8 * 1024 * 1024  # characters
BATCH = 256
DELAY_S = 0.05
WARNINGS = frozenset(
    {"FAILED_PRECONDITION", "OUT_OF_RANGE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
)
EVENTS = {"server": "grpc.server.call", "client": "grpc.client.call"}
LOGGING_LEVELS = {"WARNING": "warn", "CRITICAL": "error"}
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
STRUCTLOG = frozenset({"_logger", "_name", "_record", "event", "exc_info"})
EXPORTER_LOGGERS = "opentelemetry.exporter"
EXPORTER_INTERVAL_S = 60.0


class LogStream:
    """Writes JSON lines to a text stream, on its own thread: a reader that stops does not block the service.

    Lines that do not fit into the queue, or cannot be written, are dropped and counted. exported: a queue
    that gets them, too.
    """

    def __init__(
        self, stream: TextIO, service: str, tally: Tally, exported: ExportQueue[Line] | None = None
    ) -> None:
        self.stream = stream
        self._exported = exported
        self._service = service
        self._tally = tally
        self.lines = Mailbox(
            "logs",
            self._write,
            lambda: tally.failure("logs"),
            limit=MAX_WAITING,
            batch=BATCH,
            enough=BATCH,
            delay_s=DELAY_S,
            size=len,
        )

    def write(self, time_ns: int, level: str, event: str, span: Span | None, fields: dict[str, Any]) -> None:
        """Write one line: time, level, service, event, the ids of the trace (if any), and the fields.

        A field that has the name of one of the first is left out.
        """
        line: dict[str, Any] = {
            "time": rfc_3339(time_ns), "level": level, "service": self._service, "event": event,
        }  # fmt: skip
        ids = None if span is None else span.get_span_context()
        if ids is not None and ids.is_valid:
            line["trace_id"] = f"{ids.trace_id:032x}"
            line["span_id"] = f"{ids.span_id:016x}"
        fields = {key: value for key, value in fields.items() if key not in line}
        text = encoded(line | fields)
        if len(text) > MAX_LINE:
            fields, event = {"truncated": True}, event[:MAX_FIELD]
            text = encoded(line | {"event": event} | fields)
        if not self.lines.put(text + "\n", urgent=level == "error"):
            self._tally.add(
                "telemetry_log_lines_dropped", "shutdown" if self.lines.is_closed else "queue_full"
            )
        if self._exported is not None:
            self._exported.put(Line(time_ns, level, event, ids, fields))

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most timeout_s seconds; what is left is dropped and counted."""
        self._tally.add("telemetry_log_lines_dropped", "shutdown", self.lines.close(timeout_s))

    def _write(self, lines: list[str]) -> None:
        try:
            if type(self.stream) is io.TextIOWrapper:
                # Not through its buffer, whose lock a forked child would find taken if this thread had it.
                _write_all(self.stream.fileno(), "".join(lines).encode(errors="backslashreplace"))
            else:
                self.stream.write("".join(lines))
                self.stream.flush()
        except Exception:
            self._tally.add("telemetry_log_lines_dropped", "write_failed", len(lines))
            raise


class Logs:
    """The signal that writes one line for each record."""

    name = "logs"

    def __init__(self, stream: LogStream, tally: Tally) -> None:
        self._stream = stream
        self._tally = tally

    def record(self, batch: Sequence[Record]) -> None:
        """Write the lines of the batch, but for quiet records; each stands alone."""
        for record in batch:
            try:
                if not record.operation.quiet:
                    self._write(record)
            except Exception:
                self._tally.failure(self.name)

    def _write(self, record: Record) -> None:
        if isinstance(record, Call):
            level, event, fields = call_level(record), EVENTS[record.method.side], _call(record)
        else:
            level, event, fields = request_level(record), "http.server.request", _request(record)
        if record.error is not None:
            fields["stack"] = record.error.stack
        self._stream.write(record.ended_ns, level, event, record.span, fields)


def call_level(call: Call) -> str:
    """How much attention the end of a call needs: info, warn or error."""
    if call.error is not None:
        return "error"
    if call.status in FAULTS:
        return "warn" if call.asked else "error"
    return "warn" if call.status in WARNINGS else "info"


def _call(call: Call) -> dict[str, Any]:
    method = call.method
    line: dict[str, Any] = {"rpc.method": method.full_name}
    if call.asked:
        line["rpc.method_original"] = call.asked
    if method.address:
        line["server.address"] = method.address
    line["status"] = call.status
    line["duration_ms"] = round(call.duration_ns / 1e6, 3)
    if call.details:
        line["details"] = call.details
    if call.peer:
        line["peer"] = call.peer
    if call.deadline_left_s is not None:
        line["deadline_left_ms"] = round(call.deadline_left_s * 1e3, 3)
    if call.attempts:
        line["previous_attempts"] = call.attempts
    return line


def request_level(request: Any) -> str:
    """How much attention the end of a request needs: info or error."""
    return "error" if request.is_error else "info"


def _request(request: Any) -> dict[str, Any]:
    return {
        "http.request.method": request.endpoint.method,
        "http.route": request.endpoint.route,
        "http.response.status_code": request.code,
        "duration_ms": round(request.duration_ns / 1e6, 3),
    }


class JsonHandler(logging.Handler):
    """Writes the records of Python's logging in the same format, with the current trace's ids and `extra`."""

    def __init__(self, stream: LogStream, redaction: Redaction) -> None:
        super().__init__()
        self._stream = stream
        self._redaction = redaction
        self.addFilter(ExporterFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; the event is its message."""
        try:
            event, given = _said(record)
            fields: dict[str, Any] = {"logger": record.name}
            fields |= {key: self._shown(key, value) for key, value in given.items()}
            if record.exc_info:
                fields["stack"] = "".join(traceback.format_exception(*record.exc_info))
            level = LOGGING_LEVELS.get(record.levelname, record.levelname.lower())
            self._stream.write(int(record.created * 1e9), level, event, get_current_span(), fields)
        except Exception:
            self.handleError(record)

    def _shown(self, key: str, value: Any) -> Any:
        return self._redaction.shown(key, value) if isinstance(value, str) else value


def _said(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """A record's message and its fields: what its `extra` has, and the keywords of structlog.

    structlog's ProcessorFormatter.wrap_for_formatter makes the message a dict, and adds other fields.
    """
    fields = {key: value for key, value in vars(record).items() if key not in STANDARD}
    if not isinstance(record.msg, dict) or "event" not in record.msg:
        return record.getMessage(), fields
    fields |= record.msg
    return str(record.msg["event"]), {key: fields[key] for key in fields if key not in STRUCTLOG}


class Capture:
    """Has the root logger write its lines as JSON, instead of to the terminal; the end puts all back."""

    def __init__(self, stream: LogStream, redaction: Redaction) -> None:
        self._root = logging.getLogger()
        self._level = self._root.level
        self._handler = JsonHandler(stream, redaction)
        terminal = (sys.stdout, sys.stderr, stream.stream)
        self._aside = [
            handler
            for handler in self._root.handlers
            if type(handler) is logging.StreamHandler and handler.stream in terminal
        ]
        for handler in self._aside:
            self._root.removeHandler(handler)
        self._root.addHandler(self._handler)

    def end(self) -> None:
        """Give the root logger the level and the handlers that it had."""
        self._root.removeHandler(self._handler)
        for handler in self._aside:
            self._root.addHandler(handler)
        self._root.setLevel(self._level)


class ExporterFilter(logging.Filter):
    """Lets a telemetry exporter complain once a minute: it would do so for each batch while it is down."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record must be written."""
        if not record.name.startswith(EXPORTER_LOGGERS) or record.levelno < logging.WARNING:
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


def _write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # somebody made it non-blocking; wait as a blocking write would
            select.select([], [fd], [])
