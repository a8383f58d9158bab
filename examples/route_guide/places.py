"""The places of the map, by latitude and longitude in degrees times 10^7."""

from examples.route_guide.route_guide_pb2 import Rectangle

PLACES = {
    (407838351, -746143763): "Patriots Path, Mendham, NJ",
    (408122808, -743999179): "101 New Jersey 10, Whippany, NJ",
    (413628156, -749015468): "U.S. 6, Shohola, PA",
}


def is_within(area: Rectangle, latitude: int, longitude: int) -> bool:
    """Whether the point lies in the rectangle, whichever of its corners is which."""
    latitudes, longitudes = (area.lo.latitude, area.hi.latitude), (area.lo.longitude, area.hi.longitude)
    return min(latitudes) <= latitude <= max(latitudes) and min(longitudes) <= longitude <= max(longitudes)
