"""Where the doctor looks: the ports of compose and of `make run` are the same, and so are their variables."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from services.marketplace.config import Settings as Marketplace
from services.recommendations.config import Settings as Recommendations
from services.settings import ServiceSettings, load
from services.tls import Files
from tools.ports import Port
from tools.run.config import Settings as Pair
from tools.scrape import Endpoint

COMPOSE_S = 30.0


class Settings(Pair):
    """The ports of the stack that are not settings of the services."""

    jaeger_ui_port: int = Field(16686, ge=1, le=65535, description="Port of Jaeger's pages and API")
    grafana_port: int = Field(3000, ge=1, le=65535, description="Port of Grafana")
    otlp_port: int = Field(4317, ge=1, le=65535, description="Port at which Jaeger takes traces")
    alertmanager_port: int = Field(9093, ge=1, le=65535, description="Port of Alertmanager")
    logs_port: int = Field(9428, ge=1, le=65535, description="Port of the log store")
    otel_exporter_otlp_endpoint: str = Field("", description="Where traces go, when not to that port")
    otel_exporter_otlp_traces_endpoint: str = Field("", description="The same, and it wins")
    logs_dir: Path = Field(Path("var"), description="Folder of the services' logs, where compose runs none")


@dataclass(frozen=True)
class Place:
    """The stack's addresses. composed: compose runs it, so every part must be there."""

    composed: bool
    forbidden: bool
    tls: Files | None
    name: str
    services: dict[str, Port]
    metrics: dict[str, Port]
    guarded: ServiceSettings
    prometheus: str
    prometheus_expected: bool
    jaeger: str
    grafana: str
    traces: str
    alertmanager: str
    log_store: str
    otlp: Port
    otlp_expected: bool
    logs: Path
    patience_s: float

    @property
    def start(self) -> str:
        """What starts it all."""
        return "docker compose up --wait" if self.composed else "docker compose up --wait, or make run"

    @property
    def traces_variable(self) -> str:
        """The variable that says where the services send traces."""
        return "OTLP_ENDPOINT" if self.composed else self.otlp.variable

    def endpoint(self, service: str) -> Endpoint:
        """A service's /metrics."""
        return Endpoint(self.metrics[service].address, self.guarded)

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
    composed, forbidden = _compose()
    variable, given = "OTEL_EXPORTER_OTLP_ENDPOINT", own.otel_exporter_otlp_endpoint
    if own.otel_exporter_otlp_traces_endpoint:
        variable, given = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", own.otel_exporter_otlp_traces_endpoint
    return Place(
        composed=composed,
        forbidden=forbidden,
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
        guarded=own,
        prometheus=f"http://127.0.0.1:{own.prometheus_port}",
        prometheus_expected=composed or shutil.which("prometheus") is not None,
        jaeger=str(shop.jaeger_ui_url or f"http://127.0.0.1:{own.jaeger_ui_port}").rstrip("/"),
        traces=f"http://127.0.0.1:{own.traces_port}",
        grafana=f"http://127.0.0.1:{own.grafana_port}",
        alertmanager=f"http://127.0.0.1:{own.alertmanager_port}",
        log_store=f"http://127.0.0.1:{own.logs_port}",
        otlp=_endpoint(variable, given or f"127.0.0.1:{own.otlp_port}"),
        otlp_expected=composed or bool(given),
        logs=own.logs_dir,
        patience_s=patience_s,
    )


def _endpoint(variable: str, text: str) -> Port:
    """Where spans go, with or without a scheme: gRPC's exporter takes both."""
    address = urlsplit(text if "://" in text else f"//{text}")
    return Port(variable, address.hostname or "127.0.0.1", address.port or 4317)


def _compose() -> tuple[bool, bool]:
    """Whether compose runs the stack, and whether we must not ask."""
    if shutil.which("docker") is None:
        return False, False
    try:
        done = subprocess.run(
            ["docker", "compose", "ps", "--quiet"],  # noqa: S607
            text=True,
            capture_output=True,
            timeout=COMPOSE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, False
    forbidden = done.returncode != 0 and "permission denied" in done.stderr
    return done.returncode == 0 and bool(done.stdout.strip()), forbidden
