"""alerts.yml as a PrometheusRule, for a Prometheus that the Prometheus Operator runs."""

from typing import Any

import yaml

from kubernetes.stack import ROOT

LOCAL = "http://localhost:3000"
GRAFANA = "https://grafana.example.com"  # where people find the cluster's Grafana


def manifest() -> dict[str, Any]:
    """The rules of alerts.yml; their links lead to the cluster's Grafana."""
    text = (ROOT / "alerts.yml").read_text().replace(LOCAL, GRAFANA)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "bookshop", "namespace": "bookshop"},
        "spec": yaml.safe_load(text),
    }
