"""The trace of a call: one span by OpenTelemetry's RPC conventions, and the context that joins both sides.

Convention: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context

from observability.call import OTHER, Call, Metadata, Method, Start
from observability.rich_status import error_info

STATUS_CODE = "rpc.response.status_code"  # the convention is about to rename it to rpc.status_code
MAX_DESCRIPTION = 256
SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class Tracing:
    """The signal that makes spans. It starts first and ends last, so that the others see its ids."""

    name = "tracing"
    loud = True

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def bind(self, method: Method) -> Start:
        """The name, kind and attributes of the method's spans are worked out here, once."""
        attributes: dict[str, Any] = {"rpc.system.name": "grpc", "rpc.method": method.full_name}
        if OTHER in {method.service, method.name}:
            attributes["rpc.method"] = OTHER
        if method.address:
            attributes["server.address"] = method.address
        if method.port is not None:
            attributes["server.port"] = method.port
        return self._serve(attributes) if method.side == "server" else self._ask(attributes)

    def _serve(self, attributes: Mapping[str, Any]) -> Start:
        def start(call: Call) -> Any:
            parent = propagate.extract(call.metadata, context=otel_context.Context(), getter=METADATA)
            return self._start(call, parent, SpanKind.SERVER, {**attributes, **peer_attributes(call.peer)})

        return start

    def _ask(self, attributes: Mapping[str, Any]) -> Start:
        def start(call: Call) -> Any:
            end = self._start(call, otel_context.get_current(), SpanKind.CLIENT, attributes)
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            call.headers.extend(carrier.items())
            return end

        return start

    def _start(
        self, call: Call, parent: otel_context.Context, kind: SpanKind, attributes: Mapping[str, Any]
    ) -> Any:
        name = attributes["rpc.method"]
        span = self._tracer.start_span(name, parent, kind, attributes, start_time=call.started_ns)
        # Never detached: the call runs in a contextvars context of its own, which goes when the call goes.
        otel_context.attach(set_span_in_context(span, parent))
        ids = span.get_span_context()
        call.trace_id, call.span_id = f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
        call.sampled = ids.trace_flags.sampled

        def end(call: Call) -> None:
            if span.is_recording():
                span.set_attributes(_end_attributes(call))
                if is_error(call):
                    span.set_status(Status(StatusCode.ERROR, call.details[:MAX_DESCRIPTION]))
                if call.error is not None:
                    span.record_exception(call.error)
            span.end(call.started_ns + call.duration_ns)

        return end


def is_error(call: Call) -> bool:
    """Whether the side that recorded the call sees an error: a server only in what is its own fault."""
    return call.status in SERVER_FAULTS or (call.method.side == "client" and call.status != "OK")


def _end_attributes(call: Call) -> dict[str, str]:
    attributes = {STATUS_CODE: call.status}
    if is_error(call):
        attributes["error.type"] = call.status
    if call.status != "OK" and (info := error_info(call.trailers)):
        attributes["error.reason"], attributes["error.domain"] = info
    return attributes


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
