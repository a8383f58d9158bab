"""What the package records, shown by what it did record of a call and of a page."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from flask import Flask
from prometheus_client import Metric

from observability.testing import MemoryTelemetry


def echo(requests: Iterable[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    """A stream in both directions, which has every metric that a call can have."""
    yield from requests


def sections() -> Iterator[str]:
    """The metrics, the attributes of spans and the fields of log lines."""
    with MemoryTelemetry(convention_metrics=True, message_sizes=True) as telemetry:
        _call(telemetry)
        _page(telemetry)
        yield _table("Metrics", "Metric | Type | Labels | What", map(_metric, telemetry.registry.collect()))
        yield _table("Spans", "Span | Kind | Attributes", sorted(map(_span, telemetry.spans())))
        yield _table("Log lines", "Event | Fields", sorted(map(_line, telemetry.lines())))


def _call(telemetry: MemoryTelemetry) -> None:
    server = grpc.server(ThreadPoolExecutor(1), interceptors=telemetry.server_interceptors(workers=1))
    handlers: Any = {"Echo": grpc.stream_stream_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", handlers),))
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(target) as bare:
        channel: Any = grpc.intercept_channel(bare, *telemetry.client_interceptors(target, timeout_s=10))
        list(channel.stream_stream("/Greeter/Echo")(iter([b"hello"])))
    server.stop(None).wait()


def _page(telemetry: MemoryTelemetry) -> None:
    app = Flask("shop")
    app.add_url_rule("/books", view_func=lambda: "books")
    telemetry.instrument_flask(app)
    app.test_client().get("/books?page=2").close()


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


def _span(span: Any) -> tuple[str, ...]:
    return f"`{span.name}`", span.kind.name.lower(), _names(sorted(span.attributes))


def _line(line: dict[str, Any]) -> tuple[str, ...]:
    return f"`{line['event']}`", _names(name for name in line if name != "event")
