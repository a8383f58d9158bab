import pytest
import yaml

from tests.e2e.processes import ROOT
from tools.run.config import Destination, destination, export_settings, stable_names

ENDPOINT = "http://collector:4317"


@pytest.mark.parametrize(
    ("environ", "quiet", "expected"),
    [
        ({}, False, Destination(True, "printed here, each when it is finished")),
        ({}, True, Destination(True, "not shown (--quiet)")),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, True, Destination(True, "not shown (--quiet)")),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT},
            False,
            Destination(False, f"sent to {ENDPOINT} (OTEL_EXPORTER_OTLP_ENDPOINT)"),
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"},
            False,
            Destination(False, f"sent to {ENDPOINT} (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)"),
        ),
        (
            {"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT},
            False,
            Destination(False, "off (OTEL_SDK_DISABLED)"),
        ),
        ({"OTEL_TRACES_EXPORTER": "none"}, False, Destination(False, "off (OTEL_TRACES_EXPORTER)")),
    ],
)
def test_opentelemetrys_own_variables_decide(
    environ: dict[str, str], quiet: bool, expected: Destination
) -> None:
    """Traces are printed unless the user names a receiver or switches them off."""
    assert destination(environ, quiet=quiet) == expected


def test_services_export_soon_and_past_a_proxy() -> None:
    """The services get the endpoint; what the user set for delay and proxy is kept."""
    assert export_settings({}, ENDPOINT) == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT,
        "OTEL_BSP_SCHEDULE_DELAY": "300",
        "no_grpc_proxy": "127.0.0.1,localhost",
    }
    mine = {"OTEL_BSP_SCHEDULE_DELAY": "50", "no_proxy": "intranet"}
    settings = export_settings(mine, ENDPOINT)
    assert settings["OTEL_BSP_SCHEDULE_DELAY"] == "50"
    assert settings["no_grpc_proxy"] == "intranet,127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("", "http,database"),
        ("rpc/dup", "rpc/dup,http,database"),
        ("database/dup, http", "database/dup,http"),
        (",database", "database,http"),
    ],
)
def test_stable_names_come_without_a_choice(chosen: str, expected: str) -> None:
    """HTTP and database get the stable names, unless the user has chosen for them; other choices stay."""
    assert stable_names({"OTEL_SEMCONV_STABILITY_OPT_IN": chosen}) == {
        "OTEL_SEMCONV_STABILITY_OPT_IN": expected
    }
    assert stable_names({}) == {"OTEL_SEMCONV_STABILITY_OPT_IN": "http,database"}


def test_compose_chooses_the_same() -> None:
    """The containers start with the names that `make run` gives the services."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("marketplace", "recommendations"):
        assert stable_names({}).items() <= services[name]["environment"].items()
