"""RouteGuide on threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from examples.route_guide.places import PLACES, Route, is_within
from examples.route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from examples.route_guide.route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server
from observability import Telemetry


class RouteGuide(RouteGuideServicer):
    """Knows a few places."""

    def GetFeature(self, request: Point, context: Any) -> Feature:
        """The place at the point, without a name if there is none."""
        return Feature(name=PLACES.get((request.latitude, request.longitude), ""), location=request)

    def ListFeatures(self, request: Rectangle, context: Any) -> Iterator[Feature]:
        """The places in the rectangle."""
        for (latitude, longitude), name in PLACES.items():
            if is_within(request, latitude, longitude):
                yield Feature(name=name, location=Point(latitude=latitude, longitude=longitude))

    def RecordRoute(self, request_iterator: Iterator[Point], context: Any) -> RouteSummary:
        """How many points the route has, how many are places, how long it is, and how long it took."""
        route = Route()
        for point in request_iterator:
            route.add(point)
        return route.summary()

    def RouteChat(self, request_iterator: Iterator[RouteNote], context: Any) -> Iterator[RouteNote]:
        """For each note, the earlier ones of its point."""
        notes: list[RouteNote] = []
        for note in request_iterator:
            yield from (earlier for earlier in notes if earlier.location == note.location)
            notes.append(note)


@contextmanager
def serve(telemetry: Telemetry) -> Iterator[str]:
    """Serve it; gives the target."""
    server = grpc.server(
        ThreadPoolExecutor(10),
        interceptors=telemetry.server_interceptors(),  # telemetry
    )
    add_RouteGuideServicer_to_server(RouteGuide(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(5).wait()
