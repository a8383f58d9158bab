"""The manifests, as kustomize renders them, hold before schemas, a linter, and a real API server."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from kubernetes import digests
from observability.testing import eventually
from tests.e2e.processes import free_ports, get
from tests.stack.cluster import BUILT, ROOT, schemas, tool
from tests.stack.cluster.server import Server
from tests.stack.engine import docker, needs_engine

ALL_GOOD = 10  # kube-score's grade
WHERE = {"local": ".", "production": "kubernetes/production"}
# What kube-score finds and is meant so, with the reason.
MEANT = {
    "deployment-has-host-podantiaffinity": "topology spread constraints do that, for hosts and zones",
    "container-image-pull-policy": "what a digest names does not change",
}
MEANT_THERE = {
    "pod-probes-identical": "recommendations: both ask for its health, and liveness concludes later",
}
MEANT_HERE = {
    "pod-probes": "nobody calls load",
    "container-image-tag": "compose has just built the images",
    "container-ephemeral-storage-request-and-limit": "retention is set in each part, and nothing else runs here",
    "deployment-replicas": "one of each part, with files of its own",
    "deployment-strategy": "so two must not run at a time",
}
# The same for all checks that kube-linter has, those included that it does not make unless it is asked to.
LINTED = {
    "dnsconfig-options": "Kubernetes' own are right: names are looked up seldom",
    "minimum-three-replicas": "the number is the autoscaler's",
    "no-node-affinity": "any node will do",
    "required-annotation-email": "a rule of a company",
    "required-label-owner": "a rule of a company",
    "sorted-keys": "kustomize has an order of its own for LOG_LEVEL and LOGS_UI_URL",
    "restart-policy": "a Deployment's pods have no other than Always, which is the default",
}
LINTED_THERE = {"dangling-servicemonitor": "it knows no matchExpressions"}
LINTED_HERE = {
    "hpa-minimum-three-replicas": "two are enough where there is one node",
    "latest-tag": "compose has just built the images",
    "no-liveness-probe": "what hangs here is looked at, not restarted",
    "no-readiness-probe": "nobody calls load",
    "no-rolling-update-strategy": "files of one part may not have two that write",
}


class Cluster(NamedTuple):
    """An API server for one overlay."""

    server: Server
    overlay: str


overlays = pytest.mark.parametrize("overlay", WHERE)


def render(overlay: str, root: Path = ROOT) -> str:
    """What kustomize makes of an overlay."""
    command = [tool("kubectl"), "kustomize", str(root / WHERE[overlay])]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def definitions() -> list[Path]:
    """Of the resources that the production overlay needs and Kubernetes itself does not have."""
    found = sorted((BUILT / "crds").glob("*.yaml"))
    if not found:
        pytest.skip("needs definitions of resources; `make kubernetes-tools` puts them there")
    return found


@overlays
def test_each_line_is_in_the_schemas(overlay: str, tmp_path: Path) -> None:
    """kubeconform knows each kind, each property and each type, those of other projects' resources included."""
    location = schemas.write(tmp_path, BUILT / "swagger.json", definitions())
    command = [tool("kubeconform"), "-strict", "-summary", "-schema-location", location]
    done = subprocess.run(command, check=False, input=render(overlay), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


@pytest.mark.parametrize(
    ("overlay", "meant"), [("production", MEANT | MEANT_THERE), ("local", MEANT | MEANT_HERE)]
)
def test_kube_score_finds_what_is_meant_alone(overlay: str, meant: dict[str, str]) -> None:
    """Each check of kube-score that fails has its reason above, and each that has a reason fails."""
    command = [tool("kube-score"), "score", "--output-format=json", "-"]
    done = subprocess.run(command, check=False, input=render(overlay), capture_output=True, text=True)
    checks = [check for found in json.loads(done.stdout) for check in found["checks"] if not check["skipped"]]
    assert {check["check"]["id"] for check in checks if check["grade"] < ALL_GOOD} == meant.keys()


@pytest.mark.parametrize(
    ("overlay", "meant"), [("production", LINTED | LINTED_THERE), ("local", LINTED | LINTED_HERE)]
)
def test_kube_linter_finds_what_is_meant_alone(overlay: str, meant: dict[str, str]) -> None:
    """The same of kube-linter, but for the schemas, which it would download: kubeconform has them."""
    command = [tool("kube-linter"), "lint", "--add-all-built-in", "--exclude=schema-validation"]
    done = subprocess.run(
        [*command, "--format=json", "-"], check=False, input=render(overlay), capture_output=True, text=True
    )
    assert {report["Check"] for report in json.loads(done.stdout)["Reports"]} == meant.keys()


@pytest.fixture(scope="module", params=WHERE)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        for path in definitions():
            server.apply(path.read_text())
        server.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        yield Cluster(server, request.param)


def pods(overlay: str) -> list[dict[str, Any]]:
    """A pod of each Deployment, as its controller would make it."""
    deployments = (each for each in yaml.safe_load_all(render(overlay)) if each["kind"] == "Deployment")
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": each["metadata"] | each["spec"]["template"]["metadata"],
            "spec": each["spec"]["template"]["spec"],
        }
        for each in deployments
    ]


def test_the_server_takes_all_of_it(cluster: Cluster) -> None:
    """A real API server finds no fault, warns of nothing, and finds nothing to change when it is applied again."""
    rendered = render(cluster.overlay)
    said = cluster.server.apply(rendered)
    assert "Warning" not in said, said
    assert len(said.splitlines()) == len([*yaml.safe_load_all(rendered)])
    done = cluster.server.kubectl("diff", "--server-side", "--filename=-", given=rendered)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_pods_are_restricted(cluster: Cluster) -> None:
    """The namespace admits each pod by the restricted standard, and would not, were it root's."""
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "bookshop"},
    }
    cluster.server.apply((ROOT / "kubernetes" / "base" / "namespace.yaml").read_text())
    cluster.server.apply(yaml.safe_dump(account))
    for pod in pods(cluster.overlay):
        cluster.server.apply(yaml.safe_dump(pod), "--dry-run=server")
        pod["spec"]["securityContext"]["runAsNonRoot"] = False
        refused = cluster.server.kubectl(
            "create", "--dry-run=server", "--filename=-", given=yaml.safe_dump(pod)
        )
        assert 'violates PodSecurity "restricted:latest"' in refused.stderr


def test_the_images_that_kind_loads_are_those_that_nobody_publishes() -> None:
    """docs/kubernetes.md builds and loads each image of ours that the local overlay names, and no other."""
    (block,) = re.findall(
        r"```sh\n(docker compose build.*?)```", (ROOT / "docs" / "kubernetes.md").read_text(), re.DOTALL
    )
    built, _, loaded, *_ = block.splitlines()
    named = set(re.findall(r"image: (bookshop/\S+)", render("local")))
    assert set(loaded.split()[3:]) == named
    assert {f"bookshop/{name}" for name in built.split()[3:]} == named


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A real registry of images, on loopback."""
    (port,) = free_ports(1)
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (tmp_path / "registry.yml").write_text(yaml.safe_dump(configuration))
    process = subprocess.Popen(
        [tool("docker-registry"), "serve", tmp_path / "registry.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        eventually(lambda: get(f"http://127.0.0.1:{port}/v2/")[0] == 200, 30)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def images(rendered: str) -> list[str]:
    return re.findall(r"image: (\S+)", rendered)


@needs_engine
def test_what_is_published_is_what_production_runs(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make digests` has the overlay name what is in the registry, where before no engine took the names of images."""
    for image in images(render("production")):
        refused = subprocess.run(["docker", "pull", image], check=False, capture_output=True, text=True)
        assert "invalid reference format" in refused.stderr
    shutil.copytree(ROOT / "kubernetes", tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes" / "production" / "kustomization.yaml"
    monkeypatch.setattr(digests, "PRODUCTION", overlay)
    monkeypatch.setattr(sys, "argv", ["digests", registry])
    assert digests.main() == 0
    found = images(render("production", tmp_path))
    assert len(found) == len(digests.SERVICES)
    for image in found:
        name, _, digest = image.removeprefix(f"{registry}/").partition("@")
        status, manifest, _ = get(f"http://{registry}/v2/{name}/manifests/{digest}", "*/*")
        assert status == 200
        assert f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}" == digest
        docker("image", "rm", f"{registry}/{name}")
