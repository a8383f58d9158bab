"""The links between the pages of the stack: each leads to a port that compose publishes, and follows its variable."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from observability.testing import eventually
from tests.e2e.processes import ROOT, Pair, pair
from tests.stack import boards
from tests.stack.scraper import PROGRAM, Prometheus

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
# "127.0.0.1:${GRAFANA_PORT:-3000}:3000": the variable and the port that it has by default.
PUBLISHED = {
    default: variable
    for service in SERVICES.values()
    for port in service.get("ports", ())
    for variable, default in re.findall(r"^127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\d+$", port)
}
FILES = [
    *sorted((ROOT / "grafana" / "dashboards").glob("*.json")),
    ROOT / "alerts.yml",
    ROOT / "jaeger-ui.json",
]
FILLED = {name: one for name, one in SERVICES.items() if "/etc/links.sh" in one.get("entrypoint", ())}
PATTERNS: list[dict[str, str]] = json.loads((ROOT / "jaeger-ui.json").read_text())["linkPatterns"]


def ports(text: str) -> set[str]:
    return set(re.findall(r"localhost:(\d+)", text))


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_links_lead_to_ports_that_follow_their_variables(file: Path, tmp_path: Path) -> None:
    """Each port in a link is published, and links.sh puts the variable's value there, whichever that is."""
    assert ports(file.read_text()) <= PUBLISHED.keys()
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    shutil.copy(file, source)
    # A port that is the default of another is no trap.
    defaults = list(PUBLISHED)
    moved = dict(zip(defaults, [*defaults[1:], "12345"], strict=True))
    done = subprocess.run(
        ["sh", ROOT / "links.sh", source, target, "echo", "started with", "its arguments"],
        env={"PATH": os.environ["PATH"]} | {PUBLISHED[default]: port for default, port in moved.items()},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout == "started with its arguments\n"
    expected = re.sub(r"localhost:(\d+)", lambda found: f"localhost:{moved[found[1]]}", file.read_text())
    assert (target / file.name).read_text() == expected


@pytest.mark.parametrize("name", FILLED)
def test_containers_fill_their_links(name: str) -> None:
    """A container that is started by links.sh has the script, the folder of files, and every port."""
    service = FILLED[name]
    _, script, source, target, _ = service["entrypoint"]
    mounted = [volume.split(":")[1] for volume in service["volumes"]]
    assert script in mounted
    assert any(path == source or path.startswith(f"{source}/") for path in mounted)
    assert target.startswith("/tmp/")
    assert "/tmp" in [*service.get("tmpfs", ()), *mounted]
    named = set(re.findall(r"\$\{(\w+_PORT):-", (ROOT / "links.sh").read_text()))
    assert named <= service["environment"].keys()
    # No configuration that it reads is where only links with the default ports are.
    assert f"{source}/" not in " ".join(service.get("command", []))


def test_all_files_with_links_are_filled() -> None:
    """Each file with a link is in the folder of a container that links.sh starts."""
    mounted = [volume.split(":") for service in FILLED.values() for volume in service["volumes"]]
    filled = [ROOT / source for source, target, *_ in mounted if target.startswith("/etc/bookshop")]
    assert all(file in filled or file.parent in filled for file in FILES)


def test_data_sources_follow_the_ports() -> None:
    """Grafana itself fills the variables in its provisioning files, and has them all."""
    text = (ROOT / "grafana" / "provisioning" / "datasources" / "datasources.yml").read_text()
    assert ports(text) == set()
    named = set(re.findall(r"localhost:\$(\w+)/", text))
    assert named
    assert named <= SERVICES["grafana"]["environment"].keys()


def test_each_page_of_the_stack_is_linked() -> None:
    """The dashboards lead to Jaeger, to the logs, to Prometheus and to Alertmanager."""
    for board in boards.boards().values():
        links = [link["url"] for link in board["links"] if link["type"] == "link"]
        assert {PUBLISHED[port] for url in links for port in ports(url)} == {
            "JAEGER_UI_PORT",
            "LOGS_PORT",
            "PROMETHEUS_PORT",
            "ALERTMANAGER_PORT",
        }


@pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack")
def test_jaegers_links_are_of_what_spans_have(tmp_path: Path) -> None:
    """Each link of Jaeger's page is made of attributes that spans have; its query in Prometheus finds their series."""
    with pair(tmp_path) as (both, receiver):
        prometheus = Prometheus(tmp_path, both.metrics)
        try:
            eventually(
                lambda: both.get("/") and prometheus.query("grpc_server_handling_seconds_count > 0"), 60
            )
            tags = {
                pair.key: pair.value.string_value for _, span in receiver.spans for pair in span.attributes
            }
            for pattern in PATTERNS:
                named = set(re.findall(r"#\{([\w.]+)\}", pattern["url"] + pattern["text"]))
                given = {"traceID"} if pattern["type"] == "traces" else {"trace.traceID", *tags}
                assert named <= given
                assert pattern["type"] == "traces" or pattern["key"] in tags
                link = re.sub(r"#\{([\w.]+)\}", lambda found: tags.get(found[1], "0"), pattern["url"])
                for expression in parse_qs(urlsplit(link).query).get("g0.expr", ()):
                    # A second of the test is 20 of earnest.
                    _has_series(both, prometheus, expression.replace("[1m]", "[3s]"))
        finally:
            prometheus.close()


def _has_series(both: Pair, prometheus: Prometheus, expression: str) -> None:
    """Waits until the expression gives series, while somebody reads."""
    eventually(lambda: both.get("/") and prometheus.query(expression), 30)


def test_addresses_inside_a_container_do_not_follow() -> None:
    """What a container's configuration calls localhost is itself, on its own port: links.sh must find none there."""
    mounted = [volume.split(":") for service in FILLED.values() for volume in service["volumes"]]
    files = [ROOT / source for source, target, *_ in mounted if target.startswith("/etc/bookshop/")]
    assert ROOT / "prometheus.yml" in files
    assert [file.name for file in files if file not in FILES and ports(file.read_text())] == []
