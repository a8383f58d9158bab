"""The typed configuration of the services: only their config modules read the environment."""

import sys
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, FilePath, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.tls import Files
from services.tokens import TokenFile

BOOKS = Path(__file__).parent / "books.csv"

Port = Annotated[int, Field(ge=0, le=65535)]
FaultsPort = Annotated[int, Field(ge=1, le=65535)]
PUBLIC = "Whether callers are strangers: their traces are linked, not continued"
FAULTS = "Port, on loopback, by which faults are switched (`make faults`); unset, there can be none"


class ServiceSettings(BaseSettings):
    """The settings of both services; each field's name in upper case is the variable's."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

    bind_host: str = Field("127.0.0.1", description="Address that the service and its metrics listen on")
    books_file: FilePath = Field(BOOKS, description="Feed of books (CSV: id, title, author, category, price)")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged"
    )
    drain_s: float = Field(
        0.5,
        ge=0,
        le=60,
        description="Seconds from the stop signal until new work is refused; not ready meanwhile",
    )
    grace_s: float = Field(
        3.0, gt=0, le=600, description="Seconds that calls in flight get to finish at a stop"
    )
    metrics_cert_file: FilePath | None = Field(
        None, description="Certificate chain (PEM): serve `/metrics` over TLS"
    )
    metrics_key_file: FilePath | None = Field(None, description="Private key of `METRICS_CERT_FILE` (PEM)")
    metrics_client_ca_file: FilePath | None = Field(
        None, description="CA (PEM) that the certificates of scrapers must be signed by"
    )
    metrics_token_file: FilePath | None = Field(
        None, description="File of bearer tokens, one a line: scrapers must send one of them"
    )

    @model_validator(mode="after")
    def _metrics_whole(self) -> Self:
        if (self.metrics_cert_file is None) != (self.metrics_key_file is None):
            raise ValueError("METRICS_CERT_FILE and METRICS_KEY_FILE must be set together, got only one")
        if self.metrics_client_ca_file and not self.metrics_cert_file:
            raise ValueError(
                "METRICS_CLIENT_CA_FILE must be set together with METRICS_CERT_FILE and METRICS_KEY_FILE, "
                "got it alone"
            )
        for files in (self.metrics_tls, self.metrics_tokens):
            if files is not None:
                files.check()
        return self

    @property
    def metrics_tls(self) -> Files | None:
        """The files for TLS, if /metrics is served over it."""
        if self.metrics_cert_file is None:
            return None
        names = "METRICS_CERT_FILE", "METRICS_KEY_FILE", "METRICS_CLIENT_CA_FILE"
        return Files(names, self.metrics_cert_file, self.metrics_key_file, self.metrics_client_ca_file)

    @property
    def metrics_tokens(self) -> TokenFile | None:
        """The file of bearer tokens, if scrapers must send one."""
        file = self.metrics_token_file
        return TokenFile("METRICS_TOKEN_FILE", file) if file else None

    def address(self, port: int) -> str:
        """Where to listen, as host:port."""
        return f"[{self.bind_host}]:{port}" if ":" in self.bind_host else f"{self.bind_host}:{port}"


AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


def load(kind: type[AnySettings]) -> AnySettings:
    """The settings from the environment; a wrong one is one line, and ends the process with code 2."""
    try:
        return kind()
    except ValidationError as error:
        for problem in error.errors():
            print(_line(kind, problem["loc"], problem["msg"], problem["input"]), file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def _line(kind: type[ServiceSettings], place: tuple[int | str, ...], message: str, value: object) -> str:
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    if not place:
        return f"{message}; correct it and start again"
    name = str(place[0])
    field = kind.model_fields[name]
    secret = (field.json_schema_extra or {}) == {"secret": True}
    got = "" if secret else f", got {str(value)[:100]!r}"
    colon = "" if message.startswith("must be") else ":"
    return f"{name.upper()}{colon} {message}{got}; correct it, or leave it out for the default"


def table(kind: type[ServiceSettings]) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each variable, for the table in docs/operations.md."""
    rows = []
    for name, field in kind.model_fields.items():
        default = "" if field.default is None else str(field.default)
        default = default.replace(str(BOOKS), "services/books.csv")
        rows.append((name.upper(), default, field.description or ""))
    return rows
