"""The OTLP exporter, with a quick way for the spans of calls: what they have in common is encoded once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from observability.spans import CallSpan

FLAGS = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
REMOTE = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
FIELDS = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
SPANS = bytes((trace_pb2.ScopeSpans.SPANS_FIELD_NUMBER << 3 | 2,))  # the tag of a field with a length


class CallSpanExporter(OTLPSpanExporter):
    """Sends spans by OTLP; configured by OTEL_EXPORTER_OTLP_*, as the exporter that it is."""

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        calls: dict[int, list[CallSpan]] = {}
        others: list[ReadableSpan] = []
        for span in data:
            if isinstance(span, CallSpan) and span.is_plain:
                calls.setdefault(id(span.instrumentation_scope), []).append(span)
            else:
                others.append(span)
        request = encode_spans(others)
        for spans in calls.values():
            frame = encode_spans(spans[:1])  # their resource and scope
            encoded = frame.resource_spans[0].scope_spans[0]
            del encoded.spans[:]
            encoded.MergeFromString(b"".join(map(_encode, spans)))
            request.MergeFrom(frame)
        return request


def _encode(span: CallSpan) -> bytes:
    """The span as one of a ScopeSpans' spans.

    The encodings of parts of a message, put together, are the encoding of the message: what spans have in
    common is taken from a cache. https://protobuf.dev/programming-guides/encoding/#last-one-wins
    """
    ids, parent = span.get_span_context(), span.parent
    own = trace_pb2.Span(
        trace_id=ids.trace_id.to_bytes(16, "big"),
        span_id=ids.span_id.to_bytes(8, "big"),
        parent_span_id=parent.span_id.to_bytes(8, "big") if parent else b"",
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        dropped_attributes_count=span.dropped_attributes,
        flags=FLAGS | (REMOTE if parent and parent.is_remote else 0) | ids.trace_flags,
    )
    if ids.trace_state:
        own.trace_state = ids.trace_state.to_header()
    if span.status.status_code is not StatusCode.UNSET:
        own.status.code = span.status.status_code.value
        own.status.message = span.status.description or ""
    same = _same(span.name, span.kind.value)
    pairs = [_pair(key, value) for key, value in span.values.items()]
    body = b"".join((own.SerializeToString(), same, *pairs))
    return SPANS + _varint(len(body)) + body


@lru_cache(maxsize=1024)
def _same(name: str, kind: int) -> bytes:
    return trace_pb2.Span(name=name, kind=kind + 1).SerializeToString()  # type: ignore[arg-type]


@lru_cache(maxsize=4096, typed=True)
def _pair(key: str, value: Any) -> bytes:
    pair = KeyValue(key=key, value=AnyValue(**{FIELDS[type(value)]: value}))
    return trace_pb2.Span(attributes=[pair]).SerializeToString()


@lru_cache(maxsize=4096)
def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + _varint(rest) if rest else bytes((low,))
