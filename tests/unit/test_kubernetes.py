"""The manifests agree with compose.yaml, prometheus.yml, alerts.yml, the images and the code's settings."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import slo
from kubernetes import stack
from kubernetes.digests import PRODUCTION, SERVICES, pinned
from observability.testing import eventually
from services.marketplace.config import Settings as ShopSettings
from services.recommendations import server
from services.recommendations.config import Settings as RecommendationsSettings
from services.settings import ServiceSettings
from tests.e2e.processes import Service, free_ports
from tools.certs import Authority

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "kubernetes"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "marketplace": ShopSettings,
    "recommendations": RecommendationsSettings,
}
OVERLAYS = ("local", "production")
DNS_TTL_S = 5  # CoreDNS' own for the pods of a Service
AFTER_GRACE_S = 2  # what a stop takes beside DRAIN_S and GRACE_S: it flushes telemetry

both = pytest.mark.parametrize("name", SETTINGS)
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def documents(path: str) -> list[dict[str, Any]]:
    """The documents of a file below kubernetes/."""
    return [document for document in yaml.safe_load_all((FOLDER / path).read_text()) if document]


def one(path: str, kind: str, name: str) -> Any:
    """The object of that kind and name in a file."""
    (found,) = (d for d in documents(path) if (d["kind"], d["metadata"]["name"]) == (kind, name))
    return found["spec"]


def deployment(name: str) -> Any:
    return one(f"base/{name}.yaml", "Deployment", name)


def container(name: str) -> Any:
    (found,) = deployment(name)["template"]["spec"]["containers"]
    return found


def ports(name: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(name)["ports"]}


def literals(path: str) -> dict[str, str]:
    """What the ConfigMap of settings holds."""
    generator = documents(f"{path}/kustomization.yaml")[0]["configMapGenerator"][0]
    assert generator["name"] == "settings"
    lines = [*generator.get("literals", ())]
    for file in generator.get("envs", ()):
        lines += (FOLDER / path / file).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def variables(name: str, overlay: str) -> dict[str, str]:
    """The environment of a pod of the pair, but for what only the cluster knows."""
    given = [*container(name)["env"]]
    if (FOLDER / overlay / f"tls-{name}.yaml").exists():
        (patch,) = documents(f"{overlay}/tls-{name}.yaml")
        given += patch["spec"]["template"]["spec"]["containers"][0]["env"]
    return literals("base") | literals(overlay) | {each["name"]: each.get("value", "") for each in given}


def image(name: str) -> str:
    """The lines of the Dockerfile that make the image."""
    stages = re.split(r"^(?=FROM )", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    (found,) = (stage for stage in stages if re.match(rf"FROM \S+ AS {name}\n", stage))
    return found


def test_what_is_written_by_code_is_as_the_code_says() -> None:
    """compose.yaml, alerts.yml and the dashboards have not changed since `make manifests`."""
    command = [sys.executable, "-m", "kubernetes", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@both
def test_ports_are_those_of_the_settings_and_of_the_image(name: str) -> None:
    """A container's ports are the settings' defaults, the image's EXPOSE, and the Service's."""
    fields = SETTINGS[name].model_fields
    serves, metrics = fields[f"{name}_port"].default, fields[f"{name}_metrics_port"].default
    assert set(ports(name).values()) == {serves, metrics}
    assert ports(name)["metrics"] == metrics
    assert re.findall(r"^EXPOSE (\d+) (\d+)$", image(name), re.MULTILINE) == [(str(serves), str(metrics))]
    service = one(f"base/{name}.yaml", "Service", name)
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports(name)


@both
def test_a_pod_runs_as_the_image_and_writes_where_compose_lets_it(name: str) -> None:
    """User, folders, memory, processor and restrictions are compose.yaml's and the Dockerfile's."""
    composed = stack.services()[name]
    spec = deployment(name)["template"]["spec"]
    user = spec["securityContext"]["runAsUser"]
    assert f"USER {user}:{spec['securityContext']['runAsGroup']}\n" in image(name)
    assert [mount["mountPath"] for mount in container(name)["volumeMounts"]] == composed["tmpfs"]
    limits = container(name)["resources"]["limits"]
    assert limits["memory"] == f"{composed['mem_limit'].removesuffix('m')}Mi"
    assert float(limits["cpu"]) == composed["cpus"]
    assert container(name)["image"] == composed["image"]
    secured = container(name)["securityContext"]
    assert secured["readOnlyRootFilesystem"] == composed["read_only"]
    assert secured["capabilities"]["drop"] == composed["cap_drop"]


@both
def test_cpu_is_requested_as_the_autoscaler_lets_it_be_used(name: str) -> None:
    """A node is not given more pods than it can serve before there is another one."""
    (metric,) = one(f"base/{name}.yaml", "HorizontalPodAutoscaler", name)["metrics"]
    requested = container(name)["resources"]["requests"]["cpu"]
    assert metric["resource"] == {
        "name": "cpu",
        "target": {"type": "AverageValue", "averageValue": requested},
    }


def secret(folder: Path) -> dict[str, str]:
    """The files that cert-manager would put into /tls, by where a pod has them."""
    authority = Authority()
    names = one("production/certificates.yaml", "Certificate", "recommendations")["dnsNames"]
    key, chain = authority.issue(*names)
    for file, content in (("ca.crt", authority.pem), ("tls.crt", chain), ("tls.key", key)):
        (folder / file).write_bytes(content)
    return {f"/tls/{file.name}": str(file) for file in folder.iterdir()}


@both
@overlays
def test_settings_are_such_that_the_code_has_and_takes(
    name: str, overlay: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each variable is one of the settings' or OpenTelemetry's, and a service starts with them."""
    known = {field.upper() for kind in SETTINGS.values() for field in kind.model_fields}
    given = variables(name, overlay)
    assert {key for key in given if not key.startswith("OTEL_")} - {"POD", "NAMESPACE"} <= known
    files = secret(tmp_path)
    for key, value in given.items():
        monkeypatch.setenv(key, files.get(value, value))
    settings = SETTINGS[name]()
    for key, value in given.items():
        if value not in files and key.lower() in SETTINGS[name].model_fields:
            assert str(getattr(settings, key.lower())).removesuffix("/") in {value, f"{value}.0"}, key


def test_the_probe_of_production_gets_an_answer(tmp_path: Path) -> None:
    """Under mutual TLS, with the production overlay's variables, the probe's command says when the service is ready."""
    (tmp_path / "tls").mkdir()
    files = secret(tmp_path / "tls")
    given = {
        key: files.get(value, value) for key, value in variables("recommendations", "production").items()
    }
    port, metrics = free_ports(2)
    given |= {"RECOMMENDATIONS_PORT": str(port), "RECOMMENDATIONS_METRICS_PORT": str(metrics)}
    (patch,) = documents("production/tls-recommendations.yaml")
    _, *command = patch["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["exec"]["command"]

    def probe(**changed: str) -> int:
        environ = os.environ | given | changed
        return subprocess.run(
            [sys.executable, *command], check=False, cwd=ROOT, env=environ, capture_output=True
        ).returncode

    assert probe() == 1
    service = Service("recommendations", tmp_path, **given, OTEL_TRACES_EXPORTER="none")
    try:
        eventually(lambda: probe() == 0, 30)
        assert probe(RECOMMENDATIONS_CA_FILE="") == 1
    finally:
        service.stop()


def test_what_all_services_have_in_compose_both_have_in_a_cluster() -> None:
    """The variables of the pair in compose.yaml have the same values in the local overlay."""
    for name in SETTINGS:
        composed = stack.services()[name]["environment"]
        # What is unset by default is compose's alone, and the database there is whatever the shell says.
        given = {key: str(value) for key, value in composed.items() if value is not None}
        given.pop("DATABASE_URL", None)
        assert given.items() <= variables(name, "local").items()


@both
def test_no_service_link_overwrites_a_setting(name: str) -> None:
    """Kubernetes would set MARKETPLACE_PORT to a URL for the Service of that name."""
    assert deployment(name)["template"]["spec"]["enableServiceLinks"] is False


@both
def test_a_pod_has_the_time_to_stop(name: str) -> None:
    """The kubelet kills no pod that still drains, finishes calls, or flushes telemetry; DNS forgets it meanwhile."""
    drain_s, grace_s = (float(literals("base")[key]) for key in ("DRAIN_S", "GRACE_S"))
    assert drain_s >= DNS_TTL_S
    given = deployment(name)["template"]["spec"]["terminationGracePeriodSeconds"]
    assert given >= math.ceil(drain_s + grace_s + AFTER_GRACE_S)


def test_a_new_pod_is_known_before_an_old_one_goes() -> None:
    """Connections to recommendations age, and names are looked up again, within minReadySeconds."""
    age_s = dict(server.OPTIONS)["grpc.max_connection_age_ms"] / 1000
    assert deployment("recommendations")["minReadySeconds"] >= age_s + DNS_TTL_S


def test_recommendations_is_found_by_its_pods() -> None:
    """The shop's round_robin needs the address of each: a headless Service of the name that the shop calls."""
    service = one(
        "base/recommendations.yaml", "Service", variables("marketplace", "local")["RECOMMENDATIONS_HOST"]
    )
    assert service["clusterIP"] == "None"


def test_readiness_is_what_the_shop_watches() -> None:
    """The kubelet asks for the health of the gRPC service, on its port."""
    asked = container("recommendations")["readinessProbe"]["grpc"]
    assert asked == {"port": ports("recommendations")["grpc"], "service": server.NAME}


def test_under_mutual_tls_the_image_checks_itself() -> None:
    """Probes of the production overlay are the image's HEALTHCHECK."""
    found = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", image("recommendations"), re.MULTILINE)
    assert found
    (patch,) = documents("production/tls-recommendations.yaml")
    patched = patch["spec"]["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert patched[probe]["exec"]["command"] == json.loads(found[1])
        assert patched[probe]["grpc"] is None


def test_certificates_are_for_the_names_that_are_called() -> None:
    """The shop's target is a name of the server's certificate; secrets and files have the names that pods mount."""
    target = variables("marketplace", "production")["RECOMMENDATIONS_HOST"]
    assert target in one("production/certificates.yaml", "Certificate", "recommendations")["dnsNames"]
    for name in SETTINGS:
        (patch,) = documents(f"production/tls-{name}.yaml")
        (volume,) = patch["spec"]["template"]["spec"]["volumes"]
        secret = one("production/certificates.yaml", "Certificate", name)["secretName"]
        assert volume["secret"]["secretName"] == secret


def test_the_shop_takes_what_comes_through_the_gateway() -> None:
    """It answers to the names of the route, which leads to its port, and lets the gateway have all its connections."""
    route = one("production/route.yaml", "HTTPRoute", "marketplace")
    given = literals("production")
    assert given["ALLOWED_HOSTS"].split(",") == route["hostnames"]
    assert given["MARKETPLACE_CLIENT_CONNECTIONS"] == str(
        ShopSettings.model_fields["marketplace_connections"].default
    )
    assert route["rules"][0]["backendRefs"] == [{"name": "marketplace", "port": ports("marketplace")["http"]}]


def test_jobs_are_those_that_the_alerts_know() -> None:
    """The ServiceMonitor's jobs, and what it does to their series, are prometheus.yml's."""
    monitor = one("production/monitors.yaml", "ServiceMonitor", "bookshop")
    (selected,) = monitor["selector"]["matchExpressions"]
    assert (monitor["jobLabel"], set(selected["values"])) == (selected["key"], set(SETTINGS))
    jobs = {
        job["job_name"]: job
        for job in yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]
    }
    (endpoint,) = monitor["endpoints"]
    for name in SETTINGS:
        labels = next(d for d in documents(f"base/{name}.yaml") if d["kind"] == "Service")["metadata"][
            "labels"
        ]
        assert labels[monitor["jobLabel"]] == name
        assert jobs[name]["dns_sd_configs"][0]["port"] == ports(name)[endpoint["port"]]
        assert jobs[name]["metric_relabel_configs"] == [
            {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", key): value for key, value in rule.items()}
            for rule in endpoint["metricRelabelings"]
        ]


def test_monitoring_leads_to_pages_of_the_cluster() -> None:
    """No link of the alerts, of the dashboards or of the shop leads to this machine, and no dashboard is left out."""
    (kustomization,) = documents("production/kustomization.yaml")
    listed = {FOLDER / "production" / path for path in kustomization["configMapGenerator"][1]["files"]}
    assert {path.name for path in listed} == {path.name for path in ROOT.glob("grafana/dashboards/*.json")}
    for path in (*listed, FOLDER / "production" / "rules.yaml"):
        assert "localhost" not in path.read_text()
    assert "localhost" not in str(literals("production"))


def test_the_collector_keeps_the_pages_that_are_too_slow() -> None:
    """Slow is to the collector what it is to the objective, and it listens where the pair sends."""
    (collector,) = documents("collector.yaml")
    policies = {each["type"]: each for each in collector["processors"]["tail_sampling"]["policies"]}
    assert policies["latency"]["latency"]["threshold_ms"] == slo.SLOW_S * 1000
    port = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    assert literals("production")["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(f":{port}")


def test_alerts_of_the_stack_stay_with_it() -> None:
    """Production has the alerts about the pair, and not those about parts that only the stack has."""
    groups = one("production/rules.yaml", "PrometheusRule", "bookshop")["groups"]
    there = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    here = yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"]
    assert there == {rule["alert"] for group in here for rule in group["rules"] if "alert" in rule} - {
        "StackPartDown",
        "EntryDown",
        "Watchdog",
    }


def test_policies_name_ports_that_there_are() -> None:
    """Each port of a network policy is one of the pair's, DNS', or OTLP's."""
    own = {*ports("marketplace").values(), *ports("recommendations").values(), "metrics", 53, 4317}
    for path in ("base/network.yaml", "local/network.yaml", "production/network.yaml"):
        for policy in documents(path):
            rules = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
            assert {port["port"] for rule in rules for port in rule.get("ports", ())} <= own


def test_everything_of_compose_is_in_the_local_cluster() -> None:
    """Each service that compose starts has a Deployment, but entry, for which a cluster has no use."""
    there = {d["metadata"]["name"] for d in documents("local/stack.yaml") if d["kind"] == "Deployment"}
    started = {name for name, service in stack.services().items() if "profiles" not in service}
    assert there | set(SETTINGS) | {"entry"} == started


def test_variables_have_the_defaults_that_compose_gives_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Defaults, escapes and what is only there if a variable is set are read as compose reads them."""
    (tmp_path / "compose.yaml").write_text(
        'services: { a: { environment: ["${X:-1}", "${X:+2}", "$$${X:-3}", "${X:-$$__file{/a}}", "$${X:+4}"] } }'
    )
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    assert stack.services()["a"]["environment"] == ["1", "", "$3", "$__file{/a}", "${X:+4}"]


def test_an_image_is_pinned_by_its_digest() -> None:
    """Each service's image in the production overlay gets the registry and the digest, and nothing else changes."""
    text = PRODUCTION.read_text()
    for number, service in enumerate(SERVICES):
        text = pinned(text, service, "localhost:5000/a", f"sha256:{number}")
    changed = yaml.safe_load(text)
    assert changed["images"] == [
        {
            "name": f"bookshop/{service}",
            "newName": f"localhost:5000/a/bookshop/{service}",
            "digest": f"sha256:{number}",
        }
        for number, service in enumerate(SERVICES)
    ]
    assert changed | {"images": ()} == yaml.safe_load(PRODUCTION.read_text()) | {"images": ()}
