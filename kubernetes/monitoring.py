"""Alerts and dashboards for a cluster with its own Prometheus and Grafana: links lead to its pages."""

import json
from typing import Any

import yaml

from grafana import addresses
from kubernetes.stack import ROOT

DOMAIN = "example.com"  # where the cluster's pages are: grafana.example.com, jaeger.example.com and so on
PAGES = {
    addresses.GRAFANA: f"https://grafana.{DOMAIN}",
    addresses.PROMETHEUS: f"https://prometheus.{DOMAIN}",
    addresses.ALERTMANAGER: f"https://alertmanager.{DOMAIN}",
    addresses.JAEGER: f"https://jaeger.{DOMAIN}",
    addresses.LOGS: f"https://logs.{DOMAIN}/select/vmui/",
}
# These watch the stack of compose.yaml, and that its Prometheus reaches its Alertmanager.
ELSEWHERE = ("StackPartDown", "EntryDown", "Watchdog")


def rules() -> dict[str, Any]:
    """The rules of alerts.yml, for the Prometheus Operator."""
    groups = yaml.safe_load(_led((ROOT / "alerts.yml").read_text()))["groups"]
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in ELSEWHERE]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "bookshop"},
        "spec": {"groups": groups},
    }


def dashboards() -> dict[str, str]:
    """The dashboards, each with the name of its file, without what only people need to read them."""
    return {
        path.name: json.dumps(json.loads(_led(path.read_text())), separators=(",", ":")) + "\n"
        for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
    }


def _led(text: str) -> str:
    for here, there in PAGES.items():
        text = text.replace(here, there)
    return text
