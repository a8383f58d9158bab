"""A live OTLP receiver as a process of its own: it parses what it gets and counts the spans of each service.

Run: python -m benchmarks.cost.receiver (prints its port; ends when its standard input ends)
"""

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

COUNTS = "/Receiver/Counts"


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans by Export; gives their numbers, as JSON, to a call of COUNTS."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 (gRPC's names)
        """Take one batch."""
        for resource in request.resource_spans:
            names = [
                pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"
            ]
            self._counts[names[0]] += sum(len(scope.spans) for scope in resource.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def counts(self, request: bytes, context: Any) -> bytes:  # noqa: ARG002
        """The spans received so far, by service."""
        return json.dumps(self._counts).encode()


def main() -> None:
    """Serve until standard input ends."""
    receiver, server = Receiver(), grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    counts: Any = grpc.unary_unary_rpc_method_handler(receiver.counts)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Receiver", {"Counts": counts}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
