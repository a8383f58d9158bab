"""The OTLP exporter, with a quick way for the spans of calls: what they have in common is encoded once.

Format: https://protobuf.dev/programming-guides/encoding/
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status, StatusCode

from observability.spans import CallSpan, Remote, Same

if TYPE_CHECKING:
    from observability.tracers import CallTracer

LOCAL = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
REMOTE = LOCAL | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
TYPES = {str: "string_value", bool: "bool_value", float: "double_value"}
FIXED64, LENGTH, FIXED32 = 1, 2, 5  # the wire types
INT64 = 1 << 63
UINT64 = (1 << 64) - 1


@lru_cache(maxsize=16384)
def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + _varint(rest) if rest else bytes((low,))


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


SPANS = _tag(trace_pb2.ScopeSpans.SPANS_FIELD_NUMBER, LENGTH)
TRACE_ID = _tag(trace_pb2.Span.TRACE_ID_FIELD_NUMBER, LENGTH) + b"\x10"
SPAN_ID = _tag(trace_pb2.Span.SPAN_ID_FIELD_NUMBER, LENGTH) + b"\x08"
PARENT = _tag(trace_pb2.Span.PARENT_SPAN_ID_FIELD_NUMBER, LENGTH) + b"\x08"
START = _tag(trace_pb2.Span.START_TIME_UNIX_NANO_FIELD_NUMBER, FIXED64)
END = _tag(trace_pb2.Span.END_TIME_UNIX_NANO_FIELD_NUMBER, FIXED64)
FLAGS = _tag(trace_pb2.Span.FLAGS_FIELD_NUMBER, FIXED32)
ATTRIBUTE = _tag(trace_pb2.Span.ATTRIBUTES_FIELD_NUMBER, LENGTH)
VALUE = _tag(KeyValue.VALUE_FIELD_NUMBER, LENGTH)
INTEGER = _tag(AnyValue.INT_VALUE_FIELD_NUMBER, 0)
OWN = struct.Struct("<2s16s2s8scQcQ2sI").pack


class CallSpanExporter(OTLPSpanExporter):
    """Sends spans by OTLP; configured by OTEL_EXPORTER_OTLP_*, as the exporter that it is."""

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        calls: dict[CallTracer, list[CallSpan]] = {}
        others: list[ReadableSpan] = []
        for span in data:
            if isinstance(span, CallSpan) and span.is_plain:
                calls.setdefault(span.tracer, []).append(span)
            else:
                others.append(span)
        requests = [encode_spans(others)] if others or not calls else []
        for spans in calls.values():
            request = encode_spans(spans[:1])  # their resource and scope
            encoded = request.resource_spans[0].scope_spans[0]
            del encoded.spans[:]
            encoded.MergeFromString(b"".join(map(_encode, spans)))
            requests.append(request)
        for request in requests[1:]:
            requests[0].MergeFrom(request)
        return requests[0]


def _encode(span: CallSpan) -> bytes:
    """The span as one of a ScopeSpans' spans: its own is packed, what others have, too, is kept encoded."""
    above, parent_id = span.above, b""
    flags: int = LOCAL
    if type(above) is Remote:
        parent_id, flags = bytes.fromhex(above.span_id), REMOTE
    elif above is not None:
        parent = above.get_span_context()
        parent_id, flags = parent.span_id.to_bytes(8, "big"), REMOTE if parent.is_remote else LOCAL
    parts = [
        OWN(
            TRACE_ID, bytes.fromhex(span.trace_id), SPAN_ID, bytes.fromhex(span.span_id),
            START, span.start_time, END, span.end_time, FLAGS, span.is_sampled | flags,
        ),
        _same(span.same),
    ]  # fmt: skip
    if parent_id:
        parts += (PARENT, parent_id)
    if span.status.status_code is not StatusCode.UNSET:
        parts.append(_status(span.status))
    parts += [_attribute(key, value) for key, value in span.values.items()]
    body = b"".join(parts)
    return SPANS + _varint(len(body)) + body


@lru_cache(maxsize=1024)
def _same(same: Same) -> bytes:
    attributes = [_attribute(key, value) for key, value in same.attributes.items()]
    return b"".join((_named(same.name, same.kind.value), *attributes))


@lru_cache(maxsize=1024)
def _named(name: str, kind: Any) -> bytes:
    return trace_pb2.Span(name=name, kind=kind + 1).SerializeToString()


def _status(status: Status) -> bytes:
    code: Any = status.status_code.value
    told = trace_pb2.Status(code=code, message=status.description or "")
    return trace_pb2.Span(status=told).SerializeToString()


@lru_cache(maxsize=8192, typed=True)
def _attribute(key: str, value: Any) -> bytes:
    if type(value) is int:
        return _integer(key, value) if -INT64 <= value < INT64 else b""  # OTLP has no larger ones
    pair = KeyValue(key=key, value=AnyValue(**{TYPES[type(value)]: value}))
    return trace_pb2.Span(attributes=[pair]).SerializeToString()


def _integer(key: str, number: int) -> bytes:
    """Integers may be of too many values to be kept, but all else of such an attribute is."""
    digits = _varint(number & UINT64)
    return _before(key, len(digits)) + digits


@lru_cache(maxsize=4096)
def _before(key: str, size: int) -> bytes:
    pair = KeyValue(key=key).SerializeToString() + VALUE + _varint(len(INTEGER) + size) + INTEGER
    return ATTRIBUTE + _varint(len(pair) + size) + pair
