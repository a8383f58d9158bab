"""Where the pages of the stack are, as a browser on this machine finds them.

These are the default ports: links.sh puts those of the environment in their place when a container starts.
"""

from urllib.parse import quote

GRAFANA = "http://localhost:3000"
PROMETHEUS = "http://localhost:9090"
ALERTMANAGER = "http://localhost:9093"
JAEGER = "http://localhost:16686"
LOGS = "http://localhost:9428/select/vmui/"
# The page of the logs makes links of addresses in messages, and nowhere else, where "Markdown parsing" is on.
TRACE = f'format if (trace_id:*) "<_msg> {JAEGER}/trace/<trace_id>" as _msg'


def lines(query: str) -> str:
    """The link to the log lines that a LogsQL query selects, each with the address of its trace.

    They are of the last half hour, if the query does not say `_time:`. What stands in braces in the query is
    left for a template to fill.
    Source: https://docs.victoriametrics.com/victorialogs/logsql/
    """
    words = quote(f"{query} | {TRACE}", safe="{}$.:/")
    return f"{LOGS}#/?query={words}&g0.relative_time=last_30_minutes"
