"""The places of the map, by latitude and longitude in degrees times 10^7."""

import time
from math import asin, cos, radians, sin, sqrt

from examples.route_guide.route_guide_pb2 import Point, Rectangle, RouteSummary

EARTH_M = 6_371_000
PLACES = {
    (407838351, -746143763): "Patriots Path, Mendham, NJ",
    (408122808, -743999179): "101 New Jersey 10, Whippany, NJ",
    (413628156, -749015468): "U.S. 6, Shohola, PA",
}


def is_within(area: Rectangle, latitude: int, longitude: int) -> bool:
    """Whether the point lies in the rectangle, whichever of its corners is which."""
    latitudes, longitudes = (area.lo.latitude, area.hi.latitude), (area.lo.longitude, area.hi.longitude)
    return min(latitudes) <= latitude <= max(latitudes) and min(longitudes) <= longitude <= max(longitudes)


def distance_m(start: Point, end: Point) -> float:
    """Metres from one point to another, along the surface (the haversine formula)."""
    from_, to = radians(start.latitude / 1e7), radians(end.latitude / 1e7)
    east = radians((end.longitude - start.longitude) / 1e7)
    half = sin((to - from_) / 2) ** 2 + cos(from_) * cos(to) * sin(east / 2) ** 2
    return 2 * EARTH_M * asin(sqrt(half))


class Route:
    """A route that is recorded point by point."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._last: Point | None = None
        self._points = self._places = 0
        self._distance_m = 0.0

    def add(self, point: Point) -> None:
        """Go on to this point."""
        self._points += 1
        self._places += (point.latitude, point.longitude) in PLACES
        if self._last is not None:
            self._distance_m += distance_m(self._last, point)
        self._last = point

    def summary(self) -> RouteSummary:
        """What there is to say of it."""
        return RouteSummary(
            point_count=self._points,
            feature_count=self._places,
            distance=int(self._distance_m),
            elapsed_time=int(time.monotonic() - self._started),
        )
