"""A line of the log, before it is text or an OpenTelemetry log record."""

from collections.abc import Mapping
from json.encoder import JSONEncoder
from typing import Any, NamedTuple

from opentelemetry.trace import SpanContext


class Line(NamedTuple):
    """A line of the log: when, how urgent, what, in which span (if any), and its other fields."""

    time_ns: int
    level: str
    event: str
    span: SpanContext | None
    fields: Mapping[str, Any]


def _text(value: object) -> str:
    """A value that JSON does not have, as text."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be printed>"


encoded = JSONEncoder(ensure_ascii=False, check_circular=False, default=_text).encode
