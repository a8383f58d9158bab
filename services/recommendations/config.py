"""The configuration of recommendations."""

from pydantic import Field, FilePath, model_validator

from services.settings import FAULTS, PUBLIC, FaultsPort, Port, ServiceSettings
from services.tls import Files


class Settings(ServiceSettings):
    """The settings of recommendations."""

    otel_service_name: str = Field("recommendations", description="Name of the service in its telemetry")
    observability_public_endpoint: bool = Field(False, description=PUBLIC)
    recommendations_port: Port = Field(50051, description="Port of the gRPC service; 0 takes any")
    recommendations_metrics_port: Port = Field(9102, description="Port of its /metrics; 0 takes any")
    recommendations_faults_port: FaultsPort | None = Field(None, description=FAULTS)
    tls_cert_file: FilePath | None = Field(None, description="Certificate chain (PEM): serve over TLS")
    tls_key_file: FilePath | None = Field(None, description="Private key of `TLS_CERT_FILE` (PEM)")
    tls_client_ca_file: FilePath | None = Field(
        None, description="CA (PEM) that clients' certificates must be signed by: mutual TLS"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE must be set together, got only one")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError(
                "TLS_CLIENT_CA_FILE must be set together with TLS_CERT_FILE and TLS_KEY_FILE, got it alone"
            )
        if self.tls:
            self.tls.check()
        return self

    @property
    def tls(self) -> Files | None:
        """The files for TLS, if calls are served over it."""
        if self.tls_cert_file is None:
            return None
        names = "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"
        return Files(names, self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file)
