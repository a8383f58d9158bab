"""Programs that measure what the shop costs; each prints its figures."""
