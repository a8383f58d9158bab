"""Where the pages of the stack are, as a browser on this machine finds them.

These are the default ports: links.sh puts those of the environment in their place when a container starts.
"""

from urllib.parse import quote

GRAFANA = "http://localhost:3000"
PROMETHEUS = "http://localhost:9090"
ALERTMANAGER = "http://localhost:9093"
JAEGER = "http://localhost:16686"
LOGS = "http://localhost:9428/select/vmui/"


def lines(query: str) -> str:
    """The link to the log lines of the last half hour that a LogsQL query selects.

    What stands in braces in the query is left for a template to fill.
    Source: https://docs.victoriametrics.com/victorialogs/logsql/
    """
    return f"{LOGS}#/?query={quote(query, safe='{}$. ')}&g0.relative_time=last_30_minutes"
