"""The pair's own configuration."""

from pydantic import Field

from services.settings import ServiceSettings


class Settings(ServiceSettings):
    """The settings of the pair, besides those of each of its services."""

    prometheus_port: int = Field(9090, ge=1, le=65535, description="Port of Prometheus beside the pair")
