"""The stack of compose.yaml in a real container engine, under a project name and on ports of the test's own."""

import ipaddress
import os
import random
import shutil
import subprocess
import sys

import pytest

from tests.e2e.processes import ROOT, Receiver, free_ports
from tools.prometheus import Prometheus

# The images of Jaeger and Grafana are large and come from a registry; the tests do without them.
SERVICES = ("marketplace", "recommendations", "entry", "prometheus", "load")
IMAGE = "prom/prometheus:v3.5.3"
TOOL_S = 1200  # a drill waits for an alert twice
ENGINE = (
    shutil.which("docker") is not None
    and subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0
)

needs_engine = pytest.mark.skipif(
    not ENGINE, reason="needs a container engine that answers `docker info`; with one: make test-stack"
)


def docker(*arguments: str, timeout_s: float = 60) -> str:
    """What the engine says."""
    done = subprocess.run(
        ["docker", *arguments], check=False, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-2000:]}"
    return done.stdout


def gateway() -> str:
    """The address under which containers reach this machine."""
    subnet = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").strip()
    return str(next(ipaddress.ip_network(subnet).hosts()))


class Stack:
    """The services that can be had anywhere, with their traces going to a receiver of the test's."""

    def __init__(self, **variables: str) -> None:
        self.project = f"bookshop-test-{random.randrange(16**6):06x}"
        self.receiver = Receiver(gateway())
        shop, prometheus, recommendations = free_ports(3)
        self.recommendations = f"127.0.0.1:{recommendations}"
        self.shop = f"http://127.0.0.1:{shop}"
        self.prometheus = Prometheus(f"http://127.0.0.1:{prometheus}")
        self.environ = (
            os.environ
            | {
                "COMPOSE_PROJECT_NAME": self.project,
                "PROMETHEUS_IMAGE": os.environ.get("PROMETHEUS_IMAGE") or IMAGE,
                "MARKETPLACE_PORT": str(shop),
                "PROMETHEUS_PORT": str(prometheus),
                "RECOMMENDATIONS_PORT": str(recommendations),
                "OTLP_ENDPOINT": self.receiver.endpoint,
            }
            | variables
        )

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        """What `docker compose` says for this project."""
        command = ["docker", "compose", *arguments]
        done = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
        return done.stdout

    def tool(self, module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A tool of ours, run on this machine as make runs it."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            check=False,
            cwd=ROOT,
            env=self.environ | variables,
            capture_output=True,
            text=True,
            timeout=TOOL_S,
        )

    def up(self, *options: str, timeout_s: float = 120) -> None:
        """Start what does not run, and wait until all are healthy."""
        self.compose("up", "--detach", "--wait", *options, *SERVICES, timeout_s=timeout_s)

    def containers(self, service: str) -> list[str]:
        """The ids of the service's containers that run."""
        return self.compose("ps", "--quiet", service).split()

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values, from Prometheus."""
        return [(found["metric"], float(found["value"][1])) for found in self.prometheus.query(expression)]

    def close(self) -> None:
        """Remove containers, networks and data."""
        self.compose("--profile=*", "down", "--volumes", "--timeout", "5")
        self.receiver.close()
