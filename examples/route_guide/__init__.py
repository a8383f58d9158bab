"""gRPC's own example: points on a map, in all four kinds of calls."""
