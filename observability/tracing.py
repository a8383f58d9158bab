"""The trace of a call: one span by OpenTelemetry's RPC conventions, and the context that joins both sides.

Convention: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from observability.call import OTHER, Call, End, Metadata, Method, Start
from observability.contrib import Contrib
from observability.rich_status import error_info
from observability.spans import CURRENT_SPAN, CallSpan, Remote, Same
from observability.tracers import CallTracer, SdkTracer

STATUS_CODE = "rpc.response.status_code"  # the convention is about to rename it to rpc.status_code
MAX_DESCRIPTION = 256
PEERS = 256
SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
CARRIERS = {"tracestate", "baggage"}
PLAIN_FIELDS = {"traceparent", "tracestate", "baggage"}
# Of version 00 (https://www.w3.org/TR/trace-context/), and valid; what else there is needs more care.
TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
SECRET = ("authorization", "cookie", "key", "password", "secret", "token", "-bin")
REDACTED = "[REDACTED]"


class Tracing:
    """The signal that makes spans. It starts first and ends last, so that the others see its ids.

    metadata_keys are the keys whose values become attributes of the span; dup adds the attributes of the
    conventions before the stable ones.
    """

    name = "tracing"
    loud = True

    def __init__(
        self,
        tracer: SdkTracer | CallTracer,
        contrib: Contrib,
        metadata_keys: Iterable[str] = (),
        *,
        dup: bool = False,
    ) -> None:
        self._tracer, self._contrib, self._dup = tracer, contrib, dup
        self._keys = [key.lower() for key in metadata_keys]

    def bind(self, method: Method) -> Start:
        """The name, kind and attributes of the method's spans are worked out here, once for each peer."""
        kind = KINDS[method.side]
        enter = self._serve if method.side == "server" else self._ask

        @lru_cache(maxsize=PEERS)
        def same_for(peer: str) -> Same:
            return self._same(method, kind, peer)

        def start(call: Call) -> End | None:
            if theirs := self._contrib.span(kind):
                _name(call, theirs)
                return None
            values = self._captured(call.metadata) if self._keys else {}
            return self._end(enter(call, same_for(call.peer), values))

        return start

    def _same(self, method: Method, kind: SpanKind, peer: str) -> Same:
        name = OTHER if OTHER in {method.service, method.name} else method.full_name
        attributes: dict[str, Any] = {"rpc.system.name": "grpc", "rpc.method": name}
        if method.address:
            attributes["server.address"] = method.address
        if method.port is not None:
            attributes["server.port"] = method.port
        if self._dup:
            attributes |= {"rpc.system": "grpc", "rpc.service": method.service}
        return Same(name, kind, attributes | peer_attributes(peer))

    def _serve(self, call: Call, same: Same, values: dict[str, Any]) -> Span:
        return self._enter(call, parent_of(call.metadata), same, values)

    def _ask(self, call: Call, same: Same, values: dict[str, Any]) -> Span:
        span = self._enter(call, otel_context.get_current(), same, values)
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        call.headers.extend(carrier.items())
        return span

    def _enter(self, call: Call, parent: otel_context.Context, same: Same, values: dict[str, Any]) -> Span:
        span = self._tracer.start_span(same, parent, values, call.started_ns)
        # Never detached: the call runs in a contextvars context of its own, which goes when the call goes.
        otel_context.attach(otel_context.Context({**parent, CURRENT_SPAN: span}))
        _name(call, span)
        return span

    def _end(self, span: Span) -> End:
        def end(call: Call) -> None:
            if span.is_recording():
                failed = call.status != "OK" and is_error(call)
                span.set_attributes(self._ended(call, failed))
                if failed:
                    span.set_status(Status(StatusCode.ERROR, call.details[:MAX_DESCRIPTION]))
                if call.error is not None:
                    span.record_exception(call.error)
            span.end(call.started_ns + call.duration_ns)

        return end

    def _ended(self, call: Call, failed: bool) -> dict[str, Any]:
        attributes: dict[str, Any] = {STATUS_CODE: call.status}
        if self._dup:
            attributes["rpc.grpc.status_code"] = grpc.StatusCode[call.status].value[0]
        if failed:
            attributes["error.type"] = call.status
        if call.status != "OK" and (info := error_info(call.trailers)):
            attributes["error.reason"], attributes["error.domain"] = info
        if (left_s := call.deadline_left_s) is not None:
            attributes["rpc.grpc.deadline_ms"] = int((call.deadline_s or 0) * 1e3)
            attributes["rpc.grpc.deadline_left_ms"] = int(left_s * 1e3)
        if call.attempts:
            attributes["rpc.grpc.previous_attempts"] = call.attempts
        if call.first_ns and call.method.streams_responses:
            attributes["rpc.grpc.first_message_ms"] = call.first_ns // 1_000_000
        return attributes

    def _captured(self, metadata: Metadata) -> dict[str, Any]:
        """The values of the allowed keys, under the convention's names; those of secrets are not shown."""
        captured: dict[str, Any] = {}
        for key in self._keys:
            values = tuple(str(value) for name, value in metadata if name == key)
            if values:
                secret = any(word in key for word in SECRET)
                captured[f"rpc.request.metadata.{key}"] = (REDACTED,) if secret else values
        return captured


def _name(call: Call, span: Span) -> None:
    """Tell the call the ids of its span."""
    if isinstance(span, CallSpan):
        call.trace_id, call.span_id, call.sampled = span.trace_id, span.span_id, span.is_sampled
    else:
        ids = span.get_span_context()
        call.trace_id, call.span_id = f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
        call.sampled = ids.trace_flags.sampled


def parent_of(metadata: Metadata) -> otel_context.Context:
    """The context that the caller sent along.

    A traceparent alone, which is what nearly all calls carry, is read here; all else is the propagator's.
    """
    header = None
    for name, value in metadata:
        if name == "traceparent" and header is None:
            header = value
        elif name in CARRIERS or name == "traceparent":
            return propagate.extract(metadata, context=otel_context.Context(), getter=METADATA)
    if isinstance(header, str) and _is_default(propagate.get_global_textmap()):
        parts = TRACEPARENT.fullmatch(header)
        if parts is not None:
            trace_id, span_id, flags = parts.groups()
            return otel_context.Context({CURRENT_SPAN: Remote(trace_id, span_id, _flags(flags))})
    return propagate.extract(metadata, context=otel_context.Context(), getter=METADATA)


@lru_cache(maxsize=8)
def _is_default(propagator: TextMapPropagator) -> bool:
    return propagator.fields == PLAIN_FIELDS


@lru_cache(maxsize=256)
def _flags(text: str) -> TraceFlags:
    return TraceFlags(int(text, 16))


def is_error(call: Call) -> bool:
    """Whether the side that recorded the call sees an error: a server only in what is its own fault."""
    return call.status in SERVER_FAULTS or (call.method.side == "client" and call.status != "OK")


def peer_attributes(peer: str) -> dict[str, str | int]:
    """The peer, as gRPC writes it (`ipv4:127.0.0.1:80`, `ipv6:%5B::1%5D:80`, `unix:/path`), as attributes."""
    scheme, _, rest = unquote(peer).partition(":")
    if scheme not in {"ipv4", "ipv6"}:
        return (
            {"network.peer.address": rest, "network.transport": "unix"} if scheme == "unix" and rest else {}
        )
    address, _, port = rest.rpartition(":")
    attributes: dict[str, str | int] = {"network.peer.address": address.strip("[]")}
    if port.isdecimal():
        attributes["network.peer.port"] = int(port)
    return attributes


class _MetadataGetter(Getter[Metadata]):
    """Reads trace context from metadata, in which a key may repeat and binary values are bytes."""

    def get(self, carrier: Metadata, key: str) -> list[str] | None:
        return [value for name, value in carrier if name == key and isinstance(value, str)] or None

    def keys(self, carrier: Metadata) -> list[str]:
        return [name for name, _ in carrier]


METADATA = _MetadataGetter()
