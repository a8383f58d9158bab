"""The configuration of the shop."""

from ipaddress import ip_network
from urllib.parse import urlsplit

from pydantic import Field, FilePath, HttpUrl, field_validator, model_validator

from services.marketplace.front.proxies import Proxies
from services.settings import FAULTS, PUBLIC, FaultsPort, Port, ServiceSettings
from services.tls import Files


class Settings(ServiceSettings):
    """The settings of the shop."""

    otel_service_name: str = Field("marketplace", description="Name of the service in its telemetry")
    observability_public_endpoint: bool = Field(True, description=PUBLIC)
    marketplace_port: Port = Field(5000, description="Port of the shop")
    marketplace_metrics_port: Port = Field(9101, description="Port of its /metrics; 0 takes any")
    marketplace_faults_port: FaultsPort | None = Field(None, description=FAULTS)
    marketplace_threads: int = Field(16, ge=1, le=256, description="Threads that serve pages")
    marketplace_page_budget_ms: int | None = Field(
        None,
        ge=1,
        le=60_000,
        description="Time, in milliseconds, for a page and its wait for a thread: what is left of it is the "
        "deadline of its call; unset, it is RECOMMENDATIONS_TIMEOUT_MS",
    )
    marketplace_queue: int = Field(
        64, ge=0, le=10_000, description="Requests that may wait for a thread; more are answered with 503"
    )
    marketplace_wait_ms: int = Field(
        500,
        ge=1,
        le=60_000,
        description="Milliseconds after which a request that waits for a thread is answered with 503",
    )
    marketplace_request_s: float = Field(
        10.0, gt=0, le=600, description="Seconds that a client has to send a whole request"
    )
    marketplace_connections: int = Field(
        800, ge=1, le=100_000, description="Connections to the shop at once; more are closed"
    )
    marketplace_client_connections: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Connections of one address at once, if it is not of `TRUSTED_PROXIES`; more are closed",
    )
    marketplace_frozen_s: int = Field(
        10, ge=2, le=600, description="Seconds after which a worker process that hangs is replaced"
    )
    allowed_hosts: str = Field(
        "",
        description="The shop's names, with commas between; others are answered with 400. Unset: any",
    )
    trusted_proxies: str = Field(
        "",
        description="Proxies before the shop, as addresses or networks with commas between: their "
        "`X-Forwarded-For`, `-Proto` and `-Host` are believed. Unset: nobody's",
    )
    hsts_s: int = Field(
        31_536_000,
        ge=0,
        description="Seconds, a year, for which browsers that came by https may not come by http "
        "(`Strict-Transport-Security`); 0 ends that",
    )
    database_url: str = Field(
        "sqlite:///var/marketplace.sqlite3",
        description="The shop's own catalogue: `sqlite:///FILE`, `sqlite://` for memory, or "
        "`postgresql://USER:PASSWORD@HOST:PORT/NAME`",
        json_schema_extra={"secret": True},
    )
    database_timeout_ms: int = Field(
        500, ge=10, le=60_000, description="Longest, in milliseconds, that a page waits for the database"
    )
    database_connections: int = Field(
        8, ge=1, le=256, description="Connections to the database that the shop has at most for pages"
    )
    recommendations_host: str = Field("localhost", description="Host of recommendations")
    recommendations_port: Port = Field(50051, description="Port of recommendations")
    recommendations_timeout_ms: int = Field(
        500, ge=1, le=60_000, description="Longest deadline, in milliseconds, of a call to recommendations"
    )
    recommendations_keep_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Seconds that recommendations are kept, for when there are no new ones; 0: none are",
    )
    recommendations_ca_file: FilePath | None = Field(
        None, description="CA (PEM) that recommendations' certificate must be signed by: call over TLS"
    )
    recommendations_cert_file: FilePath | None = Field(
        None, description="The shop's own certificate (PEM), for mutual TLS"
    )
    recommendations_key_file: FilePath | None = Field(
        None, description="Private key of `RECOMMENDATIONS_CERT_FILE` (PEM)"
    )
    jaeger_ui_url: HttpUrl | None = Field(
        None, description="Jaeger's address, for links from pages to traces"
    )
    logs_ui_url: HttpUrl | None = Field(
        None, description="VictoriaLogs' address, for links from pages to log lines"
    )

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url != "sqlite://" and not url.startswith(("sqlite:///", "postgresql://")):
            raise ValueError(
                "must be sqlite:///FILE, sqlite:// or postgresql://USER:PASSWORD@HOST:PORT/NAME, "
                f"got the scheme {url.partition(':')[0]!r}"
            )
        urlsplit(url).port  # noqa: B018 (it raises ValueError if the port is no number)
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _known_proxies(cls, text: str) -> str:
        for network in _parts(text):
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(
                    f"must be addresses or networks such as 10.1.0.0/16, with commas between ({error})"
                ) from None
        return text

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        if (self.recommendations_cert_file is None) != (self.recommendations_key_file is None):
            raise ValueError(
                "RECOMMENDATIONS_CERT_FILE and RECOMMENDATIONS_KEY_FILE must be set together, got only one"
            )
        if self.recommendations_cert_file and not self.recommendations_ca_file:
            raise ValueError(
                "RECOMMENDATIONS_CERT_FILE must be set together with RECOMMENDATIONS_CA_FILE, got it alone"
            )
        if self.recommendations_tls:
            self.recommendations_tls.check()
        return self

    @property
    def recommendations_tls(self) -> Files | None:
        """The files for TLS, if recommendations is called over it."""
        if self.recommendations_ca_file is None:
            return None
        names = "RECOMMENDATIONS_CERT_FILE", "RECOMMENDATIONS_KEY_FILE", "RECOMMENDATIONS_CA_FILE"
        cert, key = self.recommendations_cert_file, self.recommendations_key_file
        return Files(names, cert, key, self.recommendations_ca_file)

    @property
    def page_budget_s(self) -> float:
        """The budget of a page, in seconds."""
        return (self.marketplace_page_budget_ms or self.recommendations_timeout_ms) / 1e3

    @property
    def hosts(self) -> frozenset[str]:
        """The names of the shop, in lower case."""
        return frozenset(_parts(self.allowed_hosts.lower()))

    @property
    def proxies(self) -> Proxies:
        """The proxies that are believed."""
        return tuple(ip_network(network) for network in _parts(self.trusted_proxies))

    @property
    def recommendations_target(self) -> str:
        """Where gRPC finds recommendations."""
        return f"{self.recommendations_host}:{self.recommendations_port}"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
