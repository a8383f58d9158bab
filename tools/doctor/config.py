"""Where the doctor looks: the ports of compose and of `make run` are the same, and so are their variables."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from services.marketplace.config import Settings as Marketplace
from services.recommendations.config import Settings as Recommendations
from services.settings import load
from services.tls import Files
from tools.run.config import Settings as Pair
from tools.run.ports import Port

COMPOSE_S = 30.0


class Settings(Pair):
    """The ports of the stack that are not settings of the services."""

    jaeger_ui_port: int = Field(16686, ge=1, le=65535, description="Port of Jaeger's pages and API")
    grafana_port: int = Field(3000, ge=1, le=65535, description="Port of Grafana")
    otlp_port: int = Field(4317, ge=1, le=65535, description="Port at which Jaeger takes traces")
    otel_exporter_otlp_endpoint: str = Field("", description="Where traces go, when not to that port")
    logs_dir: Path = Field(Path("var"), description="Folder of the services' logs, where compose runs none")


@dataclass(frozen=True)
class Place:
    """The stack's addresses. composed: compose runs it, so every part must be there."""

    composed: bool
    tls: Files | None
    name: str
    services: dict[str, Port]
    metrics: dict[str, Port]
    prometheus: str
    prometheus_expected: bool
    jaeger: str
    grafana: str
    traces: str
    otlp: Port
    otlp_expected: bool
    logs: Path
    patience_s: float

    @property
    def start(self) -> str:
        """What starts it all."""
        return "docker compose up --wait" if self.composed else "docker compose up --wait, or make run"

    def log(self, service: str) -> Path:
        """The file of a service's log, where compose does not run it."""
        return self.logs / f"{service}.log"

    def log_of(self, service: str) -> str:
        """Where a service's log is read."""
        return f"docker compose logs {service}" if self.composed else f"{self.log(service)} and .err"

    def search(self, words: str) -> str:
        """The command that finds the words in the logs."""
        if self.composed:
            return f"docker compose logs --no-log-prefix marketplace recommendations | grep {words}"
        return f"grep {words} {self.logs}/*.log"


def place(patience_s: float) -> Place:
    """Read the environment, and ask compose what it runs. A wrong setting ends the process with code 2."""
    own, shop, recommendations = load(Settings), load(Marketplace), load(Recommendations)
    composed = _is_composed()
    endpoint = urlsplit(own.otel_exporter_otlp_endpoint or f"http://127.0.0.1:{own.otlp_port}")
    return Place(
        composed=composed,
        tls=shop.recommendations_tls,
        name=shop.recommendations_host,
        services={
            "marketplace": Port("MARKETPLACE_PORT", own.bind_host, shop.marketplace_port),
            "recommendations": Port(
                "RECOMMENDATIONS_PORT", own.bind_host, recommendations.recommendations_port
            ),
        },
        metrics={
            "marketplace": Port("MARKETPLACE_METRICS_PORT", own.bind_host, shop.marketplace_metrics_port),
            "recommendations": Port(
                "RECOMMENDATIONS_METRICS_PORT", own.bind_host, recommendations.recommendations_metrics_port
            ),
        },
        prometheus=f"http://127.0.0.1:{own.prometheus_port}",
        prometheus_expected=composed or shutil.which("prometheus") is not None,
        jaeger=str(shop.jaeger_ui_url or f"http://127.0.0.1:{own.jaeger_ui_port}").rstrip("/"),
        traces=f"http://127.0.0.1:{own.traces_port}",
        grafana=f"http://127.0.0.1:{own.grafana_port}",
        otlp=Port("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.hostname or "127.0.0.1", endpoint.port or 4317),
        otlp_expected=composed or bool(own.otel_exporter_otlp_endpoint),
        logs=own.logs_dir,
        patience_s=patience_s,
    )


def _is_composed() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(
            ["docker", "compose", "ps", "--quiet"],  # noqa: S607
            text=True,
            capture_output=True,
            timeout=COMPOSE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and bool(done.stdout.strip())
