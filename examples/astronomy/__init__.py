"""The recommendation service of OpenTelemetry's demo, the Astronomy Shop."""
