"""RouteGuide on asyncio."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from examples.route_guide.places import PLACES, Route, is_within
from examples.route_guide.route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from examples.route_guide.route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server
from observability import Telemetry


class RouteGuide(RouteGuideServicer):
    """Knows a few places."""

    async def GetFeature(self, request: Point, context: Any) -> Feature:
        """The place at the point, without a name if there is none."""
        return Feature(name=PLACES.get((request.latitude, request.longitude), ""), location=request)

    async def ListFeatures(self, request: Rectangle, context: Any) -> AsyncIterator[Feature]:
        """The places in the rectangle."""
        for (latitude, longitude), name in PLACES.items():
            if is_within(request, latitude, longitude):
                yield Feature(name=name, location=Point(latitude=latitude, longitude=longitude))

    async def RecordRoute(self, request_iterator: AsyncIterator[Point], context: Any) -> RouteSummary:
        """How many points the route has, how many are places, how long it is, and how long it took."""
        route = Route()
        async for point in request_iterator:
            route.add(point)
        return route.summary()

    async def RouteChat(
        self,
        request_iterator: AsyncIterator[RouteNote],
        context: Any,
    ) -> AsyncIterator[RouteNote]:
        """For each note, the earlier ones of its point."""
        notes: list[RouteNote] = []
        async for note in request_iterator:
            for earlier in notes:
                if earlier.location == note.location:
                    yield earlier
            notes.append(note)


@asynccontextmanager
async def serve(telemetry: Telemetry) -> AsyncIterator[str]:
    """Serve it; gives the target."""
    server = grpc.aio.server(
        interceptors=telemetry.aio_server_interceptors(),  # telemetry
    )
    add_RouteGuideServicer_to_server(RouteGuide(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(5)
