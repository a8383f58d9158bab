"""What all tests have."""

pytest_plugins = ["observability.pytest_plugin"]
