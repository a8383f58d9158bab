"""What the package records, shown by what it did record of calls and of pages, well and failed."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
from flask import Flask, request
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from prometheus_client import Metric

from observability.testing import MemoryTelemetry

# What a row is of, whether it failed, and the names in it.
Recorded = tuple[tuple[str, ...], bool, list[str]]


def echo(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """A stream in both directions, which has every metric that a call can have."""
    for message in requests:
        if message == b"refuse":
            status = Status(code=5, message="not here")
            status.details.add().Pack(ErrorInfo(reason="GONE", domain="example.com"))
            context.abort_with_status(rpc_status.to_status(status))
        if message == b"raise":
            raise ValueError(message)
        yield message


def books() -> str:
    """A page that fails when its number is not one."""
    return f"page {int(request.args['page'])}"


def sections() -> Iterator[str]:
    """The metrics, the attributes of spans and the fields of log lines."""
    with MemoryTelemetry(convention_metrics=True, message_sizes=True) as telemetry:
        _calls(telemetry)
        _pages(telemetry)
        yield _table("Metrics", "Metric | Type | Labels | What", map(_metric, telemetry.registry.collect()))
        spans, lines = map(_span, telemetry.spans()), map(_line, telemetry.lines())
        yield _table(
            "Spans", "Span | Kind | Attributes | And on failure (`exception.*`: of its event)", _rows(spans)
        )
        yield _table("Log lines", "Event | Fields | And on failure", _rows(lines))


def _calls(telemetry: MemoryTelemetry) -> None:
    server = grpc.server(ThreadPoolExecutor(1), interceptors=telemetry.server_interceptors(workers=1))
    handlers: Any = {"Echo": grpc.stream_stream_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", handlers),))
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(target) as bare:
        channel: Any = grpc.intercept_channel(bare, *telemetry.client_interceptors(target, timeout_s=10))
        for message in (b"hello", b"refuse", b"raise"):
            with suppress(grpc.RpcError):
                list(channel.stream_stream("/Greeter/Echo")(iter([message])))
        with suppress(grpc.RpcError):
            unknown: Any = bare.unary_unary("/Greeter/Nothing")
            unknown(b"", timeout=10)
    server.stop(None).wait()


def _pages(telemetry: MemoryTelemetry) -> None:
    app = Flask("shop")
    app.logger.disabled = True
    app.add_url_rule("/books", view_func=books)
    telemetry.instrument_flask(app)
    for number in ("2", "two"):
        app.test_client().get(f"/books?page={number}").close()


def _rows(recorded: Iterable[Recorded]) -> Iterator[tuple[str, ...]]:
    """For each thing the names that it has, and those that only a failed one has."""
    well: dict[tuple[str, ...], list[str]] = {}
    failed: dict[tuple[str, ...], list[str]] = {}
    for thing, has_failed, names in recorded:
        (failed if has_failed else well).setdefault(thing, []).extend(names)
    for thing in sorted(well.keys() | failed.keys()):
        common = well.get(thing, [])
        yield *thing, _names(common), _names(name for name in failed.get(thing, []) if name not in common)


def _table(title: str, head: str, rows: Iterable[tuple[str, ...]]) -> str:
    columns = "|---" * (head.count("|") + 1)
    return "\n".join(
        [f"## {title}\n", f"| {head} |", f"{columns}|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def _metric(metric: Metric) -> tuple[str, ...]:
    labels = [label for sample in metric.samples for label in sample.labels if label != "le"]
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return f"`{name}`", metric.type, _names(labels), metric.documentation


def _span(span: Any) -> Recorded:
    events = [name for event in span.events for name in sorted(event.attributes)]
    names = [*sorted(span.attributes), *events]
    has_failed = "error.type" in span.attributes or span.attributes.get("rpc.status_code", "OK") != "OK"
    return (f"`{span.name}`", span.kind.name.lower()), has_failed, names


def _line(line: dict[str, Any]) -> Recorded:
    names = [name for name in line if name != "event"]
    return (f"`{line['event']}`",), "details" in line or "stack" in line, names
