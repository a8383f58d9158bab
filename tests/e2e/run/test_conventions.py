import pytest
import yaml

from tests.e2e.processes import ROOT
from tools.run.conventions import stable_names


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
