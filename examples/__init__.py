"""Services that others wrote, retyped small, with this package's telemetry added; see README.md."""
