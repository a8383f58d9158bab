"""A faster encoding for OTLP of the spans of calls that nobody has touched.

OpenTelemetry's own encoder does all other spans, and what is around these. Their attributes are text and
whole numbers, and mostly the same again and again.
"""

from collections.abc import Sequence
from functools import lru_cache

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.proto.trace.v1.trace_pb2 import SpanFlags as Flags
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from observability.signals.spans import PlainSpan

KINDS = {
    SpanKind.INTERNAL: Message.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: Message.SPAN_KIND_SERVER,
    SpanKind.CLIENT: Message.SPAN_KIND_CLIENT,
    SpanKind.PRODUCER: Message.SPAN_KIND_PRODUCER,
    SpanKind.CONSUMER: Message.SPAN_KIND_CONSUMER,
}
REPEATING = frozenset({
    "network.peer.address", "network.peer.port", "rpc.grpc.deadline_left_ms", "rpc.grpc.deadline_ms",
    "rpc.method", "rpc.status_code", "rpc.system.name", "server.address", "server.port",
})  # fmt: skip
KEPT = 1024  # attributes
STATUS = {StatusCode.OK: Status.STATUS_CODE_OK, StatusCode.ERROR: Status.STATUS_CODE_ERROR}


class Encoder:
    """Encodes spans as the parts of an ExportTraceServiceRequest, its repeated ResourceSpans."""

    def __init__(self) -> None:
        self._envelopes: dict[tuple[int, int], tuple[ReadableSpan, ResourceSpans]] = {}

    def encode(self, spans: Sequence[ReadableSpan]) -> list[ResourceSpans]:
        """The spans, grouped by resource and scope. Raises what OpenTelemetry's encoder raises."""
        groups: dict[tuple[int, int], list[Message]] = {}
        others = []
        for span in spans:
            message = _message(span) if type(span) is PlainSpan else None
            if message is None:
                others.append(span)
                continue
            key = id(span.resource), id(span.instrumentation_scope)
            if key not in groups:
                groups[key] = []
                self._learn(key, span)
            groups[key].append(message)
        encoded = list(encode_spans(others).resource_spans) if others else []
        for key, messages in groups.items():
            resource_spans = ResourceSpans()
            resource_spans.CopyFrom(self._envelopes[key][1])
            resource_spans.scope_spans[0].spans.extend(messages)
            encoded.append(resource_spans)
        return encoded

    def _learn(self, key: tuple[int, int], span: ReadableSpan) -> None:
        """Keep what is around the spans of one resource and scope; the span keeps their ids theirs."""
        if key not in self._envelopes:
            made = encode_spans([span]).resource_spans[0]
            del made.scope_spans[0].spans[:]
            self._envelopes[key] = span, made


def _message(span: ReadableSpan) -> Message | None:
    context, parent, status = span.context, span.parent, span.status
    if context is None or context.trace_state or span.links:
        return None
    flags: int = Flags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    if parent is not None and parent.is_remote:
        flags |= Flags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
    try:
        message = Message(
            trace_id=context.trace_id.to_bytes(16, "big"),
            span_id=context.span_id.to_bytes(8, "big"),
            parent_span_id=parent.span_id.to_bytes(8, "big") if parent is not None else b"",
            name=span.name,
            kind=KINDS[span.kind],
            start_time_unix_nano=span.start_time or 0,
            end_time_unix_nano=span.end_time or 0,
            attributes=[
                _repeating(key, value) if key in REPEATING else _attribute(key, value)
                for key, value in (span.attributes or {}).items()
            ],
            flags=flags,
        )
        if not status.is_unset:
            message.status.code = STATUS[status.status_code]
            message.status.message = status.description or ""
    except (TypeError, ValueError):  # what a sampler has added may be anything
        return None
    return message


def _attribute(key: str, value: object) -> KeyValue:
    if type(value) is str:
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if type(value) is int:
        return KeyValue(key=key, value=AnyValue(int_value=value))
    raise TypeError(f"an attribute of a plain span must be text or a whole number, got {value!r}")


_repeating = lru_cache(KEPT, typed=True)(_attribute)
