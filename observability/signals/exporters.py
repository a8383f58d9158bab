"""What sends spans out: the exporters that the settings name."""

import logging
import sys
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from grpc import Compression
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from observability.mailbox import PAUSE_S
from observability.settings import EXPORTERS_GROUP, Edge
from observability.signals.otlp import Encoder

MAX_BYTES = 4 * 1024 * 1024  # what a gRPC server takes by default
SLICE = 16  # spans that are encoded before other threads have their turn
COMPRESSIONS = {"gzip": Compression.Gzip, "none": Compression.NoCompression}
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

logger = logging.getLogger(__name__)


def make(edge: Edge) -> list[SpanExporter]:
    """The exporters. One that cannot be made is reported by one line, and the others do without it."""
    made: list[SpanExporter] = []
    for name in edge.exporters:
        try:
            made.append(_make(name, edge))
        except Exception as error:
            logger.error("spans are not exported by %s: %s", name, error)
    return made


def _make(name: str, edge: Edge) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter(out=sys.stdout)
    if name != "otlp":
        (entry, *_) = entry_points(group=EXPORTERS_GROUP, name=name)
        exporter: SpanExporter = entry.load()()
        return exporter
    if edge.protocol == "grpc":
        return GrpcExporter(**grpc_options(edge))
    try:
        return HttpExporter(edge)
    except ImportError:
        raise RuntimeError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL {edge.protocol} needs the extra `http` of this package"
        ) from None


def grpc_options(edge: Edge) -> dict[str, Any]:
    """What OpenTelemetry's exporters over gRPC get, of each signal."""
    return {
        "endpoint": edge.endpoint,
        "insecure": edge.insecure,
        "compression": COMPRESSIONS[edge.compression],
        "timeout": edge.timeout_s,
    }


def export(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> tuple[int, int]:
    """Send the spans; how many were delivered and how many were lost. Never raises."""
    errors: list[Exception] = []
    delivered = _delivered(exporter, spans, errors)
    if errors:
        logger.warning("spans that cannot be exported: %d", len(errors), exc_info=errors[0])
    return delivered, len(spans) - delivered


def _delivered(exporter: SpanExporter, spans: Sequence[ReadableSpan], errors: list[Exception]) -> int:
    """One that cannot be encoded loses no other: the halves of a batch that fails are sent on their own."""
    try:
        if exporter.export(spans) is not SpanExportResult.SUCCESS:
            return 0
    except Exception as error:
        if len(spans) == 1:
            errors.append(error)
            return 0
        half = len(spans) // 2
        return _delivered(exporter, spans[:half], errors) + _delivered(exporter, spans[half:], errors)
    rejected = exporter.rejected if isinstance(exporter, GrpcExporter) else 0
    return len(spans) - min(max(rejected, 0), len(spans))  # a receiver may answer with any number


class HttpExporter(SpanExporter):
    """Sends spans by OTLP over HTTP, configured by OTEL_EXPORTER_OTLP_*. Without the extra: ImportError."""

    def __init__(self, edge: Edge) -> None:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Exporter

        self._exporter: Any = Exporter(timeout=edge.timeout_s, compression=Compression(edge.compression))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans; raises when one cannot be encoded, which the exporter itself does not report."""
        result: SpanExportResult = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            encode_spans(spans)
        return result

    def shutdown(self) -> None:
        """End an export that is under way."""
        self._exporter.shutdown()


class TooLargeError(Exception):
    """A request that no receiver takes."""


class GrpcExporter(OTLPSpanExporter):
    """Sends spans by OTLP over gRPC; configured by OTEL_EXPORTER_OTLP_*, as the exporter that it is.

    `rejected` is how many spans of the last request the receiver did not take.
    """

    rejected = 0

    def __init__(self, **options: Any) -> None:
        self._encoder = Encoder()
        super().__init__(**options)

    # OpenTelemetry's exporter has no public way to another encoding, nor to the receiver's answer.
    def _translate_data(self, data: Sequence[ReadableSpan]) -> Any:
        """The request, encoded in slices: other threads wait for no more than one of them."""
        slices = []
        for start in range(0, len(data), SLICE):
            part = ExportTraceServiceRequest(resource_spans=self._encoder.encode(data[start : start + SLICE]))
            slices.append(part.SerializeToString())
            time.sleep(PAUSE_S)
        request = b"".join(slices)  # a repeated field of a message: joined, the messages are one
        if len(request) > MAX_BYTES:
            raise TooLargeError(f"{len(data)} spans are {len(request)} bytes, more than {MAX_BYTES}")
        return request

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        channel: Any = self._channel
        send = channel.unary_unary(EXPORT, None, ExportTraceServiceResponse.FromString)
        self._client: Any = _Client(self, send)


class _Client:
    """What the exporter calls, as it would a TraceServiceStub."""

    def __init__(self, exporter: GrpcExporter, send: Any) -> None:
        self._exporter = exporter
        self._send = send

    def Export(self, request: bytes, **options: Any) -> None:  # noqa: N802 (the method's name on the wire)
        """Send an encoded request, and remember how much of it was refused."""
        response = self._send(request, **options)
        self._exporter.rejected = response.partial_success.rejected_spans
