"""Grafana's dashboards as code: `python -m grafana` writes dashboards/*.json."""
