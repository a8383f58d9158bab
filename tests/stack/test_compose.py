"""The stack as `docker compose up` brings it, in a real engine."""

import json
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from observability.testing import eventually
from protobufs.recommendations_pb2 import BookCategory, RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services import __version__
from tests.e2e.processes import ROOT, free_ports, get
from tests.stack.engine import SERVICES, Stack, docker, needs_engine
from tools.certs import VARIABLES

OWN = ("marketplace", "recommendations", "load", "entry")
BASE = "python:3.13-slim-trixie"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    running = Stack()
    try:
        running.compose("build", *OWN, timeout_s=600)
        running.up()
        yield running
    finally:
        running.close()


def declared() -> dict[str, Any]:
    """The services of compose.yaml, as Compose understands it."""
    services: dict[str, Any] = json.loads(
        docker("compose", "--project-directory", str(ROOT), "config", "--format", "json")
    )["services"]
    return services


class Visitor:
    """Somebody who opens page after page; codes are the answers, counted."""

    def __init__(self, stack: Stack) -> None:
        self.codes: Counter[int] = Counter()
        self._url, self._end = f"{stack.shop}/?category=SELF_HELP", threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(0.02):
            self.codes[get(self._url)[0]] += 1

    def __enter__(self) -> "Visitor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool; with it on PATH: make test-stack"
)
def test_prometheus_can_be_configured_so() -> None:
    """promtool finds no fault in prometheus.yml and what it names."""
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_engine
def test_each_service_is_contained() -> None:
    """All have minimal rights, limits, short logs and a restart, and listen on loopback alone."""
    services = declared()
    assert set(services) == {*SERVICES, "jaeger", "grafana", "alertmanager", "logs"}
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) <= 256 * 2**20, name
        assert service["cpus"], name
        assert service["restart"] == "unless-stopped", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name
        assert ("build" in service) != ("healthcheck" in service), name  # the own images have their own


@needs_engine
def test_images_are_small_and_say_what_they_are(stack: Stack) -> None:
    """An own image is at most 150 MB above its base, runs as nobody in particular, and has labels and a health check."""
    base = int(docker("image", "inspect", BASE, "--format", "{{.Size}}"))
    for name in OWN:
        image = json.loads(docker("image", "inspect", f"bookshop/{name}"))[0]
        assert image["Size"] - base < 150e6, name
        config = image["Config"]
        assert config["User"] == "10001:10001", name
        assert config["Healthcheck"]["Test"], name
        assert config["Labels"]["org.opencontainers.image.title"] == name
        assert config["Labels"]["org.opencontainers.image.version"] == __version__


@needs_engine
@pytest.mark.parametrize(("name", "other"), [SERVICES[:2], SERVICES[1::-1]])
def test_an_image_holds_its_own_service_alone(stack: Stack, name: str, other: str) -> None:
    """The code of the other service is not in it."""
    (container,) = stack.containers(name)
    assert {name, "faults", "feed.py"} <= {*docker("exec", container, "ls", "services").split()} - {other}
    assert (
        docker("exec", container, "sh", "-c", f"ls -d services/{other} 2>/dev/null || echo none") == "none\n"
    )


@needs_engine
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_change_nothing(stack: Stack, name: str) -> None:
    """In each container the user is not root, and the file system cannot be written to."""
    (container,) = stack.containers(name)
    said = docker("exec", container, "sh", "-c", "id -u; touch /etc/x /app/x 2>/dev/null || echo refused")
    user, refused = said.split()
    assert user != "0"
    assert refused == "refused"


@needs_engine
def test_a_page_is_one_trace_and_its_exemplar_leads_there(stack: Stack) -> None:
    """Traces of both services arrive, and the exemplars that Prometheus holds are of traces that arrived."""
    eventually(lambda: {name for name, _ in stack.receiver.spans} == {"marketplace", "recommendations"}, 60)

    def exemplars() -> set[str]:
        found = stack.prometheus.exemplars("grpc_server_handling_seconds_bucket")
        return {exemplar["labels"]["trace_id"] for exemplar in found}

    eventually(lambda: bool(exemplars()), 60)
    seen = exemplars()
    eventually(lambda: seen <= {span.trace_id.hex() for _, span in stack.receiver.spans}, 30)


@needs_engine
def test_people_visit_the_shop(stack: Stack) -> None:
    """The load generator asks for every kind of page, and what it counts are the right answers."""
    kinds = {"home", "category", "books", "book"}
    eventually(lambda: kinds <= {labels["name"] for labels, _ in stack.query("load_requests_total")}, 60)
    answers = {(labels["name"], labels["code"]) for labels, _ in stack.query("load_requests_total")}
    assert answers <= {(kind, "200") for kind in kinds} | {("unknown category", "404")}


def recommended(stack: Stack, tls: grpc.ChannelCredentials | None = None) -> int:
    """How many books a client outside gets, from whichever instance."""
    target = stack.recommendations
    with grpc.secure_channel(target, tls) if tls else grpc.insecure_channel(target) as channel:
        request = RecommendationRequest(user_id=1, category=BookCategory.MYSTERY, max_results=3)
        return len(RecommendationsStub(channel).Recommend(request, timeout=10).recommendations)


@needs_engine
def test_scaling_up_and_down_loses_no_call(stack: Stack) -> None:
    """Three instances share the calls, Prometheus has each by its name, and no page goes without all the while."""
    handled = 'grpc_server_handled_total{grpc_method="Recommend",grpc_code="OK"}'
    with Visitor(stack) as visitor:
        stack.up("--no-recreate", "--scale", "recommendations=3")
        eventually(lambda: len(stack.query(f"rate({handled}[15s]) > 0")) == 3, 60)
        assert [value for _, value in stack.query('up{job="recommendations"}')] == [1, 1, 1]
        assert {labels["host_name"] for labels, _ in stack.query('target_info{job="recommendations"}')} == {
            container[:12] for container in stack.containers("recommendations")
        }
        assert recommended(stack) == 3
        stack.up("--no-recreate", "--scale", "recommendations=1")
        eventually(lambda: len(stack.query('up{job="recommendations"}')) == 1, 60)
    assert set(visitor.codes) == {200}
    degraded = stack.query("marketplace_recommendations_degraded_total > 0")
    # Only slowness, of a machine that starts containers, may cost a page its recommendations.
    assert {labels["reason"] for labels, _ in degraded} <= {"DEADLINE_EXCEEDED"}


@needs_engine
def test_the_port_of_recommendations_stays(stack: Stack) -> None:
    """A client outside calls recommendations on one port, also of containers that are made again."""
    assert recommended(stack) == 3
    stack.compose("up", "--detach", "--wait", "--force-recreate", "recommendations")
    assert recommended(stack) == 3


@needs_engine
def test_entry_is_watched(stack: Stack) -> None:
    """load sees that recommendations answers through entry, and that nobody does while entry hangs."""

    def answers() -> list[float]:
        return [value for _, value in stack.query("load_entry_up")]

    eventually(lambda: answers() == [1], 60)
    stack.compose("pause", "entry")
    try:
        eventually(lambda: answers() == [0], 60)
    finally:
        stack.compose("unpause", "entry")
    eventually(lambda: answers() == [1], 60)


def without_recommendations(stack: Stack) -> bool:
    return "Recommendations are not available now" in get(stack.shop)[1]


@needs_engine
def test_no_fault_can_be_unless_it_is_allowed(stack: Stack) -> None:
    """Without FAULTS nobody listens, in no container, and the tool says what to do."""
    done = stack.tool("tools.faults", "on", "errors")
    assert done.returncode == 1
    assert "nobody listens for faults" in done.stderr
    assert not without_recommendations(stack)


@needs_engine
def test_faults_are_switched_in_the_containers(stack: Stack) -> None:
    """With FAULTS=1 a fault is on in every instance, until it is healed; from outside nobody reaches the switch."""
    stack.environ["FAULTS"] = "1"
    stack.up()
    try:
        assert stack.tool("tools.faults", "on", "errors").stdout == "recommendations: on: errors\n"
        eventually(lambda: without_recommendations(stack), 30)
        refused = stack.tool("tools.faults", "on", "slow", "1", "99999")
        assert (refused.returncode, "must be a number from 0 to 10000" in refused.stderr) == (2, True)
        assert "healed: errors" in stack.tool("tools.faults", "heal").stdout
        eventually(lambda: not without_recommendations(stack), 30)
        (container,) = stack.containers("recommendations")
        addresses = json.loads(docker("inspect", container))[0]["NetworkSettings"]["Networks"].values()
        assert {get(f"http://{network['IPAddress']}:9112/")[0] for network in addresses} == {0}
    finally:
        del stack.environ["FAULTS"]
        stack.up()


@needs_engine
def test_mutual_tls_between_the_two(stack: Stack, tmp_path: Path) -> None:
    """With TLS=1 and the profile, pages are whole, and the published port takes a certificate and refuses strangers."""
    stack.environ |= {"TLS": "1", "COMPOSE_PROFILES": "tls"}
    try:
        stack.compose("build", "certs", timeout_s=600)
        stack.up()
        stack.compose("cp", "certs:/certs", str(tmp_path))
        files = {name: tmp_path / "certs" / file for name, file in VARIABLES.items()}
        ca, key, cert = (files[f"RECOMMENDATIONS_{kind}_FILE"].read_bytes() for kind in ("CA", "KEY", "CERT"))
        eventually(lambda: "<li>" in get(stack.shop)[1] and not without_recommendations(stack), 30)
        assert recommended(stack, grpc.ssl_channel_credentials(ca, key, cert)) == 3
        for stranger in (None, grpc.ssl_channel_credentials(ca)):
            with pytest.raises(grpc.RpcError) as refused:
                recommended(stack, stranger)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        reasons = 'tls_handshakes_refused_total{job="recommendations"} > 0'
        eventually(
            lambda: {one["reason"] for one, _ in stack.query(reasons)} == {"not_tls", "no_certificate"}, 30
        )
        eventually(lambda: [up for _, up in stack.query("load_entry_up")] == [1], 30)
        said = stack.tool("tools.doctor", **{name: str(file) for name, file in files.items()}).stdout
        assert "is SERVING over TLS" in said
        assert "the shop answered it, with recommendations" in said
    finally:
        del stack.environ["TLS"], stack.environ["COMPOSE_PROFILES"]
        stack.up()


@needs_engine
def test_the_doctor_knows_compose(stack: Stack) -> None:
    """It follows a page through the containers, and misses only the parts that the tests do without."""
    jaeger, grafana, alertmanager, logs = map(str, free_ports(4))
    done = stack.tool(
        "tools.doctor",
        OTEL_EXPORTER_OTLP_ENDPOINT=stack.receiver.endpoint,
        JAEGER_UI_PORT=jaeger,
        GRAFANA_PORT=grafana,
        ALERTMANAGER_PORT=alertmanager,
        LOGS_PORT=logs,
    )
    found = [line.split()[:2] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [name for state, name in found if state == "FAIL"] == [
        "Jaeger",
        "logs",
        "Alertmanager",
        "Grafana",
    ], done.stdout
    for name in ("scrape", "spans", "log"):
        assert found.count(["ok", name]) == 2, done.stdout


@needs_engine
def test_the_stack_stops_in_peace(stack: Stack) -> None:
    """Asked to stop, both services exit with 0, and their last lines are no errors."""
    containers = {name: stack.containers(name)[0] for name in ("load", "marketplace", "recommendations")}
    for name, container in containers.items():
        stack.compose("stop", name)
        assert docker("inspect", container, "--format", "{{.State.ExitCode}}").strip() == "0", name
    assert not re.search("Traceback", docker("logs", containers["marketplace"]))
