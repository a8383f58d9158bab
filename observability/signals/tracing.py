"""The trace of a call: one span by OpenTelemetry's RPC conventions, and the context that joins both sides.

Convention: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from observability.call import FAULTS, MAX_DETAILS, Call, Failure, Metadata, Method, Record
from observability.propagation import MAX_VALUES, METADATA, Callers, Sent, joined, shown
from observability.signals.provider import CallSpans
from observability.signals.redaction import REDACTED, Redaction
from observability.signals.rich_status import error_info
from observability.signals.spans import Beginning
from observability.tally import Tally

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator

PEERS = 1024
KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
SERVER_FAULTS = FAULTS | {"DEADLINE_EXCEEDED"}
SECRET = ("authorization", "cookie", "key", "password", "secret", "token", "-bin")
BAGGAGE = "baggage"
IDS = TraceContextTextMapPropagator()
UNSET = Status(StatusCode.UNSET)


class Tracing:
    """The signal that makes spans: it starts them in the request's thread, and ends them from the records.

    callers says whose traces are continued; metadata_keys are the keys of request metadata whose values
    become attributes, as far as redaction shows them; old_names adds the attributes of the conventions
    before the stable ones.
    """

    name = "tracing"

    def __init__(
        self,
        spans: CallSpans,
        tally: Tally,
        callers: Callers,
        metadata_keys: Iterable[str],
        *,
        old_names: bool,
        redaction: Redaction,
    ) -> None:
        self._spans = spans
        self._tally = tally
        self._callers = callers
        self._keys = [key.lower() for key in metadata_keys]
        self._old_names = old_names
        self._redaction = redaction
        self._propagator: TextMapPropagator | None = None
        self._is_w3c = False
        self._headers = Sent(lambda: tally.failure(self.name))
        self._attributes = lru_cache(maxsize=PEERS)(self._attributes_of)

    def serve(self, call: Call) -> Context:
        """Start a server's span, the child of the caller's, or linked to it if the caller is not trusted.

        Returns the context that the handler runs in.
        """
        current = otel_context.get_current()
        if current:  # the caller's span is the parent, or nobody's; all else that others put there stays
            current = set_span_in_context(INVALID_SPAN, current)
        trusted = self._callers.are_trusted(call)
        if self._spans.is_light and self._needs_ids_only(call.metadata, trusted):

            def beginning() -> Beginning:
                extracted = IDS.extract(call.metadata, current, METADATA)
                return self._beginning(call, *joined(extracted, current, is_trusted=trusted))

            call.span = self._spans.light(beginning)
            return set_span_in_context(call.span, current)
        return self._start(call, *joined(self._extracted(call, current), current, is_trusted=trusted))

    def ask(self, call: Call) -> Context:
        """Start a client's span, and put what the server must know into the call's headers."""
        context = self._start(call, otel_context.get_current())
        headers: list[tuple[str, str]] = []
        call.headers = headers
        try:
            propagate.inject(headers, context, self._headers)
        except Exception:
            self._tally.failure(self.name)
        return context

    def _extracted(self, call: Call, current: Context) -> Context:
        """What the caller has sent along; nothing when that cannot be read."""
        try:
            return propagate.extract(call.metadata, current, METADATA)
        except Exception:
            self._tally.failure(self.name)
            return current

    def _needs_ids_only(self, metadata: Metadata, trusted: bool) -> bool:
        """Whether the caller's span is all there is to extract, which may wait until somebody asks."""
        propagator = propagate.get_global_textmap()
        if propagator is not self._propagator:
            self._propagator = propagator
            self._is_w3c = IDS.fields <= propagator.fields <= IDS.fields | {BAGGAGE}
        return self._is_w3c and not (trusted and BAGGAGE in [key for key, _ in metadata])

    def record(self, batch: Sequence[Record]) -> None:
        """End the spans of the batch; each stands alone."""
        for record in batch:
            try:
                if record.span is not None and record.owns_span:
                    self._end(record, record.span)
            except Exception:
                self._tally.failure(self.name)

    def _start(self, call: Call, parent: Context, links: Sequence[Link] = ()) -> Context:
        call.span = self._spans.start(lambda: self._beginning(call, parent, links))
        return set_span_in_context(call.span, parent)

    def _beginning(self, call: Call, parent: Context, links: Sequence[Link]) -> Beginning:
        method = call.method
        attributes = self._attributes(method, call.peer)
        if call.asked or self._keys:
            attributes = attributes | self._captured(call)
        return Beginning(method.full_name, parent, KINDS[method.side], attributes, call.started_ns, links)

    def _end(self, record: Record, span: Span) -> None:
        attributes, status = self._ended(record) if isinstance(record, Call) else _request(record)
        events = [_event(record.error, record.ended_ns)] if record.error is not None else []
        self._spans.end(span, attributes, status, events, record.ended_ns)

    def _attributes_of(self, method: Method, peer: str) -> dict[str, Any]:
        attributes: dict[str, Any] = {"rpc.system.name": "grpc", "rpc.method": method.full_name}
        if method.address:
            attributes["server.address"] = method.address
        if method.port is not None:
            attributes["server.port"] = method.port
        if self._old_names:
            attributes |= {"rpc.system": "grpc", "rpc.service": method.service}
        return attributes | peer_attributes(peer)

    def _captured(self, call: Call) -> dict[str, Any]:
        """The values of the allowed keys, under the convention's names; those of secrets are not shown."""
        captured: dict[str, Any] = {"rpc.method_original": call.asked} if call.asked else {}
        for key in self._keys:
            values = [str(value) for name, value in call.metadata if name == key][:MAX_VALUES]
            if not values:
                continue
            name = f"rpc.request.header.{key}"
            if any(word in key for word in SECRET):
                captured[name] = (REDACTED,)
            else:
                captured[name] = tuple(utf8(shown(self._redaction.shown(name, value))) for value in values)
        return captured

    def _ended(self, call: Call) -> tuple[dict[str, Any], Status]:
        """What is known at the end; the outcome comes last, because a limit drops what came first."""
        attributes: dict[str, Any] = {}
        if call.deadline_left_s is not None:
            attributes["rpc.grpc.deadline_ms"] = int((call.deadline_s or 0) * 1e3)
            attributes["rpc.grpc.deadline_left_ms"] = int(call.deadline_left_s * 1e3)
        if call.attempts:
            attributes["rpc.grpc.previous_attempts"] = call.attempts
        if call.first_ns and call.method.streams_responses:
            attributes["rpc.grpc.first_message_ms"] = call.first_ns // 1_000_000
        if call.status != "OK" and (info := error_info(call.trailers)):
            attributes["error.reason"], attributes["error.domain"] = info
        if self._old_names:
            attributes["rpc.grpc.status_code"] = grpc.StatusCode[call.status].value[0]
        attributes["rpc.status_code"] = call.status
        if not is_error(call):
            return attributes, UNSET
        attributes["error.type"] = call.status
        return attributes, Status(StatusCode.ERROR, utf8(call.details))


def is_error(call: Call) -> bool:
    """Whether the side that recorded the call sees an error: a server only in what is its own fault."""
    if call.method.side == "client":
        return call.status != "OK"
    return call.status in SERVER_FAULTS or call.error is not None


def _request(request: Any) -> tuple[dict[str, Any], Status]:
    """The outcome of a request; all else has been set when it began."""
    attributes: dict[str, Any] = {"http.response.status_code": request.code}
    if not request.is_error:
        return attributes, UNSET
    if request.error is None:
        return attributes | {"error.type": request.status}, Status(StatusCode.ERROR)
    description = utf8(request.error.message[:MAX_DETAILS])
    return attributes | {"error.type": request.error.type}, Status(StatusCode.ERROR, description)


def _event(error: Failure, time_ns: int) -> Event:
    attributes = {  # the most important last: a limit drops what came first
        "exception.escaped": "False",
        "exception.stacktrace": utf8(error.stack),
        "exception.message": utf8(error.message),
        "exception.type": error.type,
    }
    return Event("exception", attributes, time_ns)


def utf8(text: str) -> str:
    """The text with what UTF-8 cannot encode escaped: exporters would lose the span for it."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


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
