"""Jaeger's API: version 3, and the older one where a Jaeger does not have that yet.

Versions: https://www.jaegertracing.io/docs/latest/apis/
"""

from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1 import trace_pb2

from tools.traces.trace import Span, span_of
from tools.web import ask_json

IDS = ("traceId", "spanId", "parentSpanId")
ENDED_BADLY = "STATUS_CODE_ERROR"


class Jaeger:
    """A Jaeger. Everything raises OSError when it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url

    def services(self) -> set[str]:
        """The services that it has traces of."""
        answer = self._ask("services")
        return set(answer.get("services") or answer.get("data") or ())

    def spans(self, trace_id: str) -> list[Span]:
        """The spans that it has of the trace."""
        answer = self._ask(f"traces/{quote(trace_id, safe='')}")
        if "result" in answer:
            return [
                span_of(_service(resource), _parsed(span))
                for resource in answer["result"].get("resourceSpans", ())
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
        return [
            span_of(trace["processes"][span["processID"]]["serviceName"], _parsed(_as_otlp(span)))
            for trace in answer.get("data") or ()
            for span in trace["spans"]
        ]

    def _ask(self, path: str) -> Any:
        try:
            return ask_json(f"{self.url}/api/v3/{path}")
        except OSError:  # an older Jaeger answers with its page, which is no JSON
            return ask_json(f"{self.url}/api/{path}")


def _service(resource: dict[str, Any]) -> str:
    attributes = resource["resource"]["attributes"]
    return next((pair["value"]["stringValue"] for pair in attributes if pair["key"] == "service.name"), "")


def _parsed(span: dict[str, Any]) -> trace_pb2.Span:
    """OTLP's JSON has ids in hexadecimal digits, where protobuf's has base64."""
    ids = {name: urlsafe_b64encode(bytes.fromhex(span.get(name, ""))).decode() for name in IDS}
    return ParseDict(span | ids | {"links": []}, trace_pb2.Span(), ignore_unknown_fields=True)


def _as_otlp(span: dict[str, Any]) -> dict[str, Any]:
    """A span of the older API, which has fields of OpenTelemetry among its tags; times are microseconds."""
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    parents = (one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF")
    return {
        "traceId": span["traceID"],
        "spanId": span["spanID"],
        "parentSpanId": next(parents, ""),
        "name": span["operationName"],
        "kind": f"SPAN_KIND_{tags.get('span.kind', 'internal').upper()}",
        "startTimeUnixNano": span["startTime"] * 1000,
        "endTimeUnixNano": (span["startTime"] + span["duration"]) * 1000,
        "attributes": [{"key": key, "value": {"stringValue": str(value)}} for key, value in tags.items()],
        "status": {
            "code": ENDED_BADLY if tags.get("error") else "STATUS_CODE_UNSET",
            "message": tags.get("otel.status_description", ""),
        },
    }
