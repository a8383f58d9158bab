"""Jobs, alerts and dashboards for a cluster that has its own Prometheus, Grafana and pages to link to."""

import json
import re
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

PAIR = ("marketplace", "recommendations")
NAME = "app.kubernetes.io/name"
INTERVAL = "15s"  # four samples in the shortest window of the rules, a minute


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


def monitor() -> dict[str, Any]:
    """The pair's jobs of prometheus.yml, which do the same, for the Prometheus Operator."""
    jobs = yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]
    relabelings = [
        {re.sub("_(.)", lambda found: found[1].upper(), key): value for key, value in each.items()}
        for each in next(job for job in jobs if job["job_name"] == PAIR[0])["metric_relabel_configs"]
    ]
    endpoint = {"port": "metrics", "interval": INTERVAL, "metricRelabelings": relabelings}
    chosen = {"key": NAME, "operator": "In", "values": [*PAIR]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "bookshop"},
        "spec": {"jobLabel": NAME, "selector": {"matchExpressions": [chosen]}, "endpoints": [endpoint]},
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
