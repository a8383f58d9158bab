"""A small OTLP/gRPC receiver of spans, for tests and for tools on the same machine."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_CALLS = 64
CLOSE_S = 0.2

Attributes = dict[str, Any]


class Receiver(TraceServiceServicer):
    """Serves on a port that the system picks, until it is closed; give its `endpoint` to exporters.

    take is called for each resource of a request, one call at a time, on a thread of the receiver, with the
    resource's attributes and its spans, as OTLP has them. Each answer says that `rejects` spans were
    rejected.
    """

    def __init__(self, take: Callable[[Attributes, Sequence[Span]], None], host: str = "127.0.0.1") -> None:
        self._take = take
        self.rejects = 0
        self._server = grpc.server(
            ThreadPoolExecutor(1, thread_name_prefix="receiver"), maximum_concurrent_rpcs=MAX_CALLS
        )
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.endpoint = f"http://{host}:{self._server.add_insecure_port(f'{host}:0')}"
        self._server.start()

    def Export(  # noqa: N802 (gRPC's name)
        self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """Take one request."""
        hand_on(request, self._take)
        rejected = ExportTracePartialSuccess(rejected_spans=self.rejects)
        return ExportTraceServiceResponse(partial_success=rejected)

    def close(self) -> None:
        """Refuse new requests, and finish those that have arrived."""
        self._server.stop(CLOSE_S).wait()


def hand_on(request: ExportTraceServiceRequest, take: Callable[[Attributes, Sequence[Span]], None]) -> None:
    """Call take for each resource of the request, however that came."""
    for resource in request.resource_spans:
        spans = [span for scope in resource.scope_spans for span in scope.spans]
        take(attributes(resource.resource.attributes), spans)


def attributes(pairs: Iterable[KeyValue]) -> Attributes:
    """OTLP's attributes as Python's values: str, bool, int, float, bytes, and lists and dicts of them."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(each) for each in value.array_value.values]
        case "kvlist_value":
            return attributes(value.kvlist_value.values)
        case kind:
            return getattr(value, kind) if kind else None
