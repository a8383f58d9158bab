"""RouteGuide on threads."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from examples.route_guide.places import PLACES, is_within
from examples.route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from examples.route_guide.route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server
from observability import Telemetry


class RouteGuide(RouteGuideServicer):
    """Knows a few places, and passes notes on."""

    def __init__(self) -> None:
        self._notes: defaultdict[tuple[int, int], list[RouteNote]] = defaultdict(list)

    def GetFeature(self, request: Point, context: Any) -> Feature:
        """The place at the point, without a name if there is none."""
        return Feature(name=PLACES.get((request.latitude, request.longitude), ""), location=request)

    def ListFeatures(self, request: Rectangle, context: Any) -> Iterator[Feature]:
        """The places in the rectangle."""
        for (latitude, longitude), name in PLACES.items():
            if is_within(request, latitude, longitude):
                yield Feature(name=name, location=Point(latitude=latitude, longitude=longitude))

    def RecordRoute(self, request_iterator: Iterator[Point], context: Any) -> RouteSummary:
        """How many points the route has, and how many of them are places."""
        points = [(point.latitude, point.longitude) for point in request_iterator]
        return RouteSummary(point_count=len(points), feature_count=len(PLACES.keys() & points))

    def RouteChat(self, request_iterator: Iterator[RouteNote], context: Any) -> Iterator[RouteNote]:
        """The notes that were left before at each note's point."""
        for note in request_iterator:
            notes = self._notes[note.location.latitude, note.location.longitude]
            yield from notes
            notes.append(note)


def serve(telemetry: Telemetry) -> tuple[grpc.Server, str]:
    """Start it; the server and its target."""
    server = grpc.server(
        ThreadPoolExecutor(10),
        interceptors=telemetry.server_interceptors(),  # telemetry
    )
    add_RouteGuideServicer_to_server(RouteGuide(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"
