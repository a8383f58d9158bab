"""When Prometheus calls a person. runbook_url is a path in this repository, which has no public address."""

from typing import Any

from grafana import addresses
from grafana.slo import HOLD, MIN_RATE, burning

SERVICES = "marketplace|recommendations"
# What the shop does without, and its people would miss: they have no replicas.
PARTS = "jaeger|logs|grafana|alertmanager|load"
# A quarter of what recommendations may use; 5000 pages make neither service grow by 6 MiB.
GROWTH = 48 * 2**20
# What follows from a service that was down is over by then, and must not call somebody after its return.
KEEP = {"keep_firing_for": "4m"}
METHOD = "{{ $labels.grpc_service }}/{{ $labels.grpc_method }}"
REFUSED = 'sum by (job) (rate(marketplace_requests_refused_total{reason=~"queue_full|waited"}[2m]))'
SHARE = "{{ $value | humanizePercentage }}"
LINES = addresses.lines('service.name:="{{$labels.job}}"')


def group() -> dict[str, Any]:
    """The group of all alerts."""
    return {"name": "alerts", "rules": [*_objectives(), *_services(), *_faults(), *_telemetry(), *_stack()]}


def _alert(
    name: str, severity: str, expr: str, summary: str, dashboard: str, wait: str = ""
) -> dict[str, Any]:
    """wait is how long the expression must hold; severity is "page" (now), "ticket" (in hours) or "none"."""
    return {
        "alert": name,
        "expr": expr,
        **({"for": wait} if wait else {}),
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            "runbook_url": f"docs/runbooks/{name}.md",
            "dashboard_url": f"{addresses.GRAFANA}/d/{dashboard}?var-service={{{{ $labels.job }}}}",
            "logs_url": LINES,
        },
    }


def _objectives() -> list[dict[str, Any]]:
    budgets = (
        ("PagesAvailabilityBurn", "failed", "fail, and the objective allows 0.1 %."),
        ("PagesLatencyBurn", "slow", "take over 300 ms, and the objective allows 5 %."),
    )
    return [
        _alert(
            name,
            severity,
            burning(kind, severity),
            f"{SHARE} of the pages of {{{{ $labels.job }}}} {words}",
            "bookshop",
            HOLD if severity == "page" else "",
        )
        for name, kind, words in budgets
        for severity in ("page", "ticket")
    ]


def _services() -> list[dict[str, Any]]:
    """Whether the services are there. Prometheus finds them by DNS: one that is gone has no `up` any more."""
    instances = f'count by (job) (up{{job=~"{SERVICES}"}})'
    down = f'count by (job) (up{{job=~"{SERVICES}"}} == 0)'
    absent = " or ".join(f'absent(up{{job="{service}"}})' for service in SERVICES.split("|"))
    began = f'process_start_time_seconds{{job=~"{SERVICES}"}}'
    # It comes back with the address that it had, or with a new one, while an old one is seen no more.
    moved = f"count by (job) (last_over_time({began}[4m])) > count by (job) ({began})"
    again = f"(changes({began}[4m]) > 0 or ({began} unless {began} offset 4m) and on (job) ({moved}))"
    return [
        _alert(
            "ServiceDown",
            "page",
            f"{down} == {instances} or {absent}",
            "{{ $labels.job }} is down: none of its instances answers ({{ $value }} seen).",
            "bookshop",
            "30s",
        )
        | KEEP,
        _alert(
            "InstanceDown",
            "ticket",
            f"{down} < {instances}",
            "{{ $value }} of the instances of {{ $labels.job }} cannot be scraped, but others can.",
            "telemetry",
            "1m",
        ),
        _alert(
            "ServiceRestarted",
            "ticket",
            f"max by (job) ({began}) and on (job) {again}",
            "A process of {{ $labels.job }} replaced another at {{ $value | humanizeTimestamp }}.",
            "telemetry",
        ),
        _alert(
            "NoTraffic",
            "ticket",
            f"job:http_server_pages:rate3m == 0 and job:http_server_pages:rate1h > {MIN_RATE}",
            "{{ $labels.job }} serves {{ $value }} pages a second, but an hour ago people came.",
            "bookshop",
            "2m",
        ),
    ]


def _faults() -> list[dict[str, Any]]:
    not_found = _alert(
        "NotFoundSurge",
        "ticket",
        "job_method:grpc_server_not_found:ratio_rate2m > 0.1 and"
        f" sum by (job, grpc_service, grpc_method) (rate(grpc_server_handled_total[2m])) > {MIN_RATE}",
        f"{SHARE} of the calls of {METHOD} end with NOT_FOUND.",
        "grpc",
        "1m",
    )
    not_found["annotations"]["dashboard_url"] += "&var-method={{ $labels.grpc_method }}&var-code=NOT_FOUND"
    return [
        _alert(
            "RecommendationsDegraded",
            "page",
            "job:marketplace_recommendations_degraded:ratio_rate2m > 0.05"
            f" and sum by (job) (rate(marketplace_recommendations_asked_total[2m])) > {MIN_RATE}",
            f"{SHARE} of the pages that ask for recommendations are shown without them.",
            "bookshop",
            "1m",
        ),
        _alert(
            "RecommendationsCircuitOpen",
            "ticket",
            "avg_over_time(marketplace_recommendations_circuit_open[1m]) > 0.5",
            f"The circuit of {{{{ $labels.instance }}}} to recommendations was open for {SHARE} of a minute.",
            "bookshop",
            "30s",
        ),
        not_found,
        _alert(
            "DatabaseDown",
            "page",
            "max_over_time(marketplace_database_up[30s]) == 0",
            "The database of {{ $labels.instance }} does not answer (up is {{ $value }}): lists are 503.",
            "bookshop",
            "30s",
        ),
        _alert(
            "RequestsRefused",
            "page",
            f"{REFUSED} / ({REFUSED} + sum by (job) (rate(http_server_request_duration_seconds_count[2m])))"
            f" > 0.05 and {REFUSED} > {MIN_RATE}",
            f"{SHARE} of the requests to {{{{ $labels.job }}}} are answered with 503 before a page is begun.",
            "bookshop",
            "1m",
        ),
        _alert(
            "Saturation",
            "page",
            "avg_over_time(instance:http_server_threads_busy:ratio[1m]) > 0.8"
            " or avg_over_time(instance:grpc_server_pool_busy:ratio[1m]) > 0.8",
            f"{SHARE} of the threads of {{{{ $labels.job }}}} at {{{{ $labels.instance }}}} are busy.",
            "grpc",
            "1m",
        ),
        _alert(
            "MemoryGrowth",
            "ticket",
            f'process_resident_memory_bytes{{job=~"{SERVICES}"}}'
            f' - min_over_time(process_resident_memory_bytes{{job=~"{SERVICES}"}}[1h]) > {GROWTH}',
            "{{ $labels.job }} at {{ $labels.instance }} grew by {{ $value | humanize1024 }}B in an hour.",
            "telemetry",
            "2m",
        ),
    ]


def _telemetry() -> list[dict[str, Any]]:
    lost = "job_reason:telemetry_spans_dropped:ratio_rate5m"
    spans = f"{SHARE} of the spans of {{{{ $labels.job }}}} are"
    return [
        _alert(
            "TelemetryDroppingSpans",
            "ticket",
            f'{lost}{{reason="queue_full"}} > 0.05',
            f"{spans} dropped because the queue for the exporter is full.",
            "telemetry",
            "1m",
        ),
        _alert(
            "ExporterFailing",
            "ticket",
            f'{lost}{{reason="export_failed"}} > 0.05',
            f"{spans} lost because their export fails.",
            "telemetry",
            "1m",
        ),
        # A signal's series begins with its first failure, which increase() cannot see.
        _alert(
            "SignalFailing",
            "ticket",
            "sum by (job, signal) (increase(telemetry_signal_failures_total[5m]) > 0"
            " or (telemetry_signal_failures_total > 0 unless telemetry_signal_failures_total offset 5m))",
            "{{ $labels.signal }} of {{ $labels.job }} failed {{ $value | humanize }} times in 5 minutes.",
            "telemetry",
        ),
    ]


def _stack() -> list[dict[str, Any]]:
    """The tools to look at when something is wrong, and whether alerts reach anybody."""
    return [
        _alert(
            "StackPartDown",
            "ticket",
            # Prometheus finds load by DNS, as it may have replicas.
            f'up{{job=~"{PARTS}"}} == 0 or absent(up{{job="load"}}) and on () up{{job="jaeger"}}',
            "{{ $labels.job }} cannot be scraped (up is {{ $value }}).",
            "telemetry",
            "1m",
        ),
        _alert(
            "EntryDown",
            "ticket",
            # load watches it, and is not what is wrong.
            'label_replace(max_over_time(load_entry_up[30s]) == 0, "job", "entry", "", "")',
            "Recommendations does not answer through {{ $labels.job }} (up is {{ $value }}).",
            "telemetry",
            "30s",
        ),
        _alert(
            "Watchdog",
            "none",
            "vector(1)",
            "Always fires ({{ $value }}), to show that alerts arrive.",
            "telemetry",
        ),
    ]
