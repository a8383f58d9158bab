"""The services under examples/, which others wrote: their telemetry is right with a line or two added."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import grpc
import pytest

from examples.astronomy import astronomy_pb2, astronomy_pb2_grpc
from examples.astronomy import recommendations as astronomy
from examples.blog.blog import create_app
from examples.boutique import boutique_pb2, boutique_pb2_grpc
from examples.boutique import recommendations as boutique
from examples.route_guide import on_asyncio, threaded
from examples.route_guide.places import PLACES
from examples.route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote
from examples.route_guide.route_guide_pb2_grpc import RouteGuideStub
from observability.testing import MemoryTelemetry, eventually

POINTS = [Point(latitude=latitude, longitude=longitude) for latitude, longitude in PLACES]
EVERYWHERE = Rectangle(lo=Point(latitude=0, longitude=-(10**9)), hi=Point(latitude=10**9, longitude=0))
ROUTE = [*POINTS, POINTS[0]]  # there and back
DISTANCE_M = 161_322
NOTES = [RouteNote(location=POINTS[0], message=str(number)) for number in range(3)]
METHODS = {  # the kind of each, and the messages that a test's calls send to the server and back
    "GetFeature": ("unary", 1, 1),
    "ListFeatures": ("server_stream", 1, 3),
    "RecordRoute": ("client_stream", 4, 1),
    "RouteChat": ("bidi_stream", 3, 3),
}


def recorded(telemetry: MemoryTelemetry, name: str, side: str) -> Any:
    """The call's span; the counter and the line have the call once, too, and the line has the span's id."""
    span: Any = telemetry.span(name, kind=side, status="OK")
    line = telemetry.line(event=f"grpc.{side}.call", **{"rpc.method": name})
    assert (line["status"], line["span_id"]) == ("OK", f"{span.context.span_id:016x}")
    service, method = name.split("/")
    series = {"grpc_service": service, "grpc_method": method}
    assert telemetry.metric(f"grpc_{side}_handled_total", grpc_code="OK", **series) == 1
    return span


def counted(telemetry: MemoryTelemetry) -> None:
    """Each signal has each call once, and the metrics its messages."""
    for method, (kind, received, sent) in METHODS.items():
        recorded(telemetry, f"routeguide.RouteGuide/{method}", "server")
        series = {"grpc_method": method, "grpc_type": kind}
        assert telemetry.metric("grpc_server_msg_received_total", **series) == received
        assert telemetry.metric("grpc_server_msg_sent_total", **series) == sent


def test_route_guide_on_threads(telemetry: MemoryTelemetry) -> None:
    """All four kinds of calls."""
    with threaded.serve(telemetry) as target, grpc.insecure_channel(target) as channel:
        stub: Any = RouteGuideStub(channel)  # type: ignore[no-untyped-call]
        assert stub.GetFeature(POINTS[0], timeout=10) == Feature(
            name=next(iter(PLACES.values())), location=POINTS[0]
        )
        assert len(list(stub.ListFeatures(EVERYWHERE, timeout=10))) == 3
        summary = stub.RecordRoute(iter(ROUTE), timeout=10)
        assert (summary.point_count, summary.feature_count) == (4, 4)
        assert summary.distance == DISTANCE_M
        assert [note.message for note in stub.RouteChat(iter(NOTES), timeout=10)] == ["0", "0", "1"]
    counted(telemetry)


def test_route_guide_on_asyncio(telemetry: MemoryTelemetry) -> None:
    """The same on an event loop."""

    async def run() -> None:
        async with on_asyncio.serve(telemetry) as target, grpc.aio.insecure_channel(target) as channel:
            stub: Any = RouteGuideStub(channel)  # type: ignore[no-untyped-call]
            assert (await stub.GetFeature(POINTS[0], timeout=10)).name
            assert len([feature async for feature in stub.ListFeatures(EVERYWHERE, timeout=10)]) == 3
            summary = await stub.RecordRoute(iter(ROUTE), timeout=10)
            assert (summary.point_count, summary.distance) == (4, DISTANCE_M)
            assert [note.message async for note in stub.RouteChat(iter(NOTES), timeout=10)] == ["0", "0", "1"]

    asyncio.run(run())
    counted(telemetry)


@contextmanager
def catalogue(messages: Any, services: Any) -> Iterator[str]:
    """A catalogue of seven products; gives its target."""

    class Catalogue(services.ProductCatalogServiceServicer):  # type: ignore[misc]
        def ListProducts(self, request: Any, context: Any) -> Any:
            return messages.ListProductsResponse(
                products=[messages.Product(id=str(number)) for number in range(7)]
            )

    server = grpc.server(ThreadPoolExecutor(2))
    services.add_ProductCatalogServiceServicer_to_server(Catalogue(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(5).wait()


@pytest.mark.parametrize(
    ("shop", "messages", "services", "package"),
    [
        (boutique, boutique_pb2, boutique_pb2_grpc, "hipstershop"),
        (astronomy, astronomy_pb2, astronomy_pb2_grpc, "oteldemo"),
    ],
    ids=["boutique", "astronomy"],
)
def test_recommendations(
    shop: Any, messages: Any, services: ModuleType, package: str, telemetry: MemoryTelemetry
) -> None:
    """The call and the call that it makes are one trace, the second a child of the first, or of a span between."""
    with (
        catalogue(messages, services) as target,
        shop.serve(telemetry, target) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub: Any = services.RecommendationServiceStub(channel)
        request = messages.ListRecommendationsRequest(user_id="u", product_ids=["1", "2", "3"])
        assert set(stub.ListRecommendations(request, timeout=10).product_ids) == {"0", "4", "5", "6"}
    served = recorded(telemetry, f"{package}.RecommendationService/ListRecommendations", "server")
    asked = recorded(telemetry, f"{package}.ProductCatalogService/ListProducts", "client")
    telemetry.assert_one_trace()
    parent: Any = served
    if shop is astronomy:
        parent = telemetry.span("get_product_list")
        assert parent.parent.span_id == served.context.span_id
        assert served.attributes["app.products_recommended.count"] == 4
    assert asked.parent.span_id == parent.context.span_id


REQUESTS = [
    ("POST", "/create", 302),
    ("POST", "/create", 400),
    ("GET", "/", 200),
    ("GET", "/<int:number>", 200),
    ("GET", "/<int:number>", 404),
]


def test_the_blog(telemetry: MemoryTelemetry) -> None:
    """Each request is a span, a count and a line by its route; the application's own line has the trace's id."""
    telemetry.capture_logs()
    client = create_app(telemetry).test_client()
    for ask, status in (
        (lambda: client.post("/create", data={"title": "First"}), 302),
        (lambda: client.post("/create", data={}), 400),
        (lambda: client.get("/"), 200),
        (lambda: client.get("/1"), 200),
        (lambda: client.get("/2"), 404),
    ):
        answer = ask()
        assert answer.status_code == status
        answer.close()
    spans = eventually(lambda: telemetry.spans() if len(telemetry.spans()) == 5 else ())
    assert [span.name for span in spans] == [f"{method} {route}" for method, route, _ in REQUESTS]
    for method, route, status in REQUESTS:
        labels = {
            "http_request_method": method,
            "http_route": route,
            "http_response_status_code": str(status),
        }
        assert telemetry.metric("http_server_request_duration_seconds_count", **labels) == 1
        telemetry.line(
            event="http.server.request", **{"http.route": route, "http.response.status_code": status}
        )
    own, created = (
        telemetry.line(event="a post was created"),
        telemetry.line(**{"http.response.status_code": 302}),
    )
    assert own["trace_id"] == created["trace_id"]
