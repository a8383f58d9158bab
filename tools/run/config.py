"""The pair's own configuration."""

from pydantic import Field

from services.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the pair can be told, beside what each of its services can."""

    prometheus_port: int = Field(9090, ge=1, le=65535, description="Port of Prometheus beside the pair")
