"""Public example services, retyped small, with this package's telemetry added; see README.md."""
