"""The configuration of the shop."""

from pydantic import Field, FilePath, HttpUrl, field_validator, model_validator

from services.settings import FAULTS, FaultsPort, Port, ServiceSettings
from services.tls import Files


class Settings(ServiceSettings):
    """The settings of the shop."""

    otel_service_name: str = Field("marketplace", description="Name of the service in its telemetry")
    marketplace_port: Port = Field(5000, description="Port of the shop")
    marketplace_metrics_port: Port = Field(9101, description="Port of its /metrics; 0 takes any")
    marketplace_faults_port: FaultsPort | None = Field(None, description=FAULTS)
    marketplace_threads: int = Field(16, ge=1, le=256, description="Threads that serve pages")
    marketplace_queue: int = Field(
        64, ge=0, le=10_000, description="Requests that may wait for a thread; more are answered with 503"
    )
    marketplace_wait_ms: int = Field(
        500, ge=1, le=60_000, description="Milliseconds after which one that waits is answered with 503"
    )
    marketplace_request_s: float = Field(
        10.0, gt=0, le=600, description="Seconds that a client has to send a whole request"
    )
    marketplace_connections: int = Field(
        800, ge=1, le=100_000, description="Connections to the shop at once; more are closed"
    )
    marketplace_client_connections: int = Field(
        200, ge=1, le=100_000, description="The same, of one address; behind a proxy, all are the proxy's"
    )
    marketplace_frozen_s: int = Field(
        10, ge=2, le=600, description="Seconds after which a worker process that hangs is replaced"
    )
    allowed_hosts: str = Field(
        "",
        description="The shop's names, with commas between; others are answered with 400. Unset: any",
    )
    database_url: str = Field(
        "sqlite:///var/marketplace.sqlite3",
        description="The shop's own catalogue: an SQLite file, or `sqlite://` for memory",
        json_schema_extra={"secret": True},
    )
    recommendations_host: str = Field("localhost", description="Host of recommendations")
    recommendations_port: Port = Field(50051, description="Port of recommendations")
    recommendations_timeout_ms: int = Field(
        500, ge=1, le=60_000, description="Deadline, in milliseconds, of a call to recommendations"
    )
    recommendations_ca_file: FilePath | None = Field(
        None, description="CA (PEM) that recommendations' certificate must be signed by: call over TLS"
    )
    recommendations_cert_file: FilePath | None = Field(
        None, description="The shop's own certificate (PEM), for mutual TLS"
    )
    recommendations_key_file: FilePath | None = Field(
        None, description="Private key of that certificate (PEM)"
    )
    jaeger_ui_url: HttpUrl | None = Field(
        None, description="Jaeger's address, for links from pages to traces"
    )

    @field_validator("database_url")
    @classmethod
    def _sqlite_only(cls, url: str) -> str:
        if url != "sqlite://" and not url.startswith("sqlite:///"):
            raise ValueError(
                f"its scheme is {url.partition(':')[0]!r}; allowed are sqlite:///FILE and sqlite://"
            )
        return url

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        if (self.recommendations_cert_file is None) != (self.recommendations_key_file is None):
            raise ValueError(
                "RECOMMENDATIONS_CERT_FILE and RECOMMENDATIONS_KEY_FILE go together: give both or neither"
            )
        if self.recommendations_cert_file and not self.recommendations_ca_file:
            raise ValueError("RECOMMENDATIONS_CERT_FILE needs RECOMMENDATIONS_CA_FILE")
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
    def hosts(self) -> frozenset[str]:
        """The names of the shop, in lower case."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())

    @property
    def recommendations_target(self) -> str:
        """Where gRPC finds recommendations."""
        return f"{self.recommendations_host}:{self.recommendations_port}"
