"""A small OTLP/gRPC receiver on loopback: what the services export becomes spans for the terminal."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tools.run.text import printable
from tools.run.traces import Span

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_CALLS = 16
STATUS_ATTRIBUTES = ("rpc.status_code", "http.response.status_code")


class Receiver(TraceServiceServicer):
    """Serves on a port that the system picks, and hands each batch of spans on."""

    def __init__(self, take: Callable[[Iterable[Span]], None]) -> None:
        self._take = take
        self._server = grpc.server(
            ThreadPoolExecutor(2, thread_name_prefix="receiver"),
            options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)],
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(  # noqa: N802
        self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """Take one batch."""
        self._take(spans_of(request))
        return ExportTraceServiceResponse()

    def stop(self) -> None:
        """Refuse new batches, and let those that came be taken."""
        self._server.stop(grace=0.2).wait()


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """The spans of a batch, their texts safe to print."""
    for resource_spans in request.resource_spans:
        service = _text(_attributes(resource_spans.resource.attributes), ["service.name"])
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(service, span)


def _span(service: str, span: trace_pb2.Span) -> Span:
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        name=printable(span.name),
        status=_text(_attributes(span.attributes), STATUS_ATTRIBUTES) or ("ERROR" if failed else ""),
        failed=failed,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AnyValue]:
    return {pair.key: pair.value for pair in pairs}


def _text(attributes: dict[str, AnyValue], keys: Iterable[str]) -> str:
    value = next((attributes[key] for key in keys if key in attributes), AnyValue())
    return printable(value.string_value or str(value.int_value or ""))
