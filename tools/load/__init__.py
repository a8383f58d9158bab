"""People who visit the shop, at a steady rate."""
