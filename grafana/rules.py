"""What Prometheus computes from the metrics of the services, for the dashboards and the alerts.

Names are level:metric:operation (https://prometheus.io/docs/practices/rules/). A ratio is absent where there
is no traffic, and so is an alert.
"""

from typing import Any

from grafana.slo import FAULTS, LONG_WINDOWS, PAGES, SHORT_WINDOWS, SLOW_S, WORK

Rule = dict[str, Any]
SECONDS = "http_server_request_duration_seconds"


def groups() -> list[dict[str, Any]]:
    """The groups of recorded series."""
    return [
        {"name": "http", "rules": _rules(_http())},
        {"name": "grpc_server", "rules": _rules(_grpc("server") | _server())},
        {"name": "grpc_client", "rules": _rules(_grpc("client") | _client())},
        {"name": "telemetry", "rules": _rules(_telemetry())},
        {"name": "slo", "rules": _rules(_slo(SHORT_WINDOWS))},
        {"name": "slo_long", "interval": "1m", "rules": _rules(_slo(LONG_WINDOWS))},
    ]


def _rules(recorded: dict[str, str]) -> list[Rule]:
    return [{"record": name, "expr": expression} for name, expression in recorded.items()]


def _ratio(part: str, whole: str) -> str:
    """A ratio that is 0 where there is none of the part, and absent where there is no whole."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def _http() -> dict[str, str]:
    by_code, total = "job_route_code:http_server_requests:rate1m", "job_route:http_server_requests:rate1m"
    buckets, pages = f"job_route_le:{SECONDS}_bucket:rate1m", "job_le:http_server_pages_seconds_bucket:rate1m"
    failed = f'sum by (job, http_route) ({by_code}{{http_response_status_code=~"5.."}})'
    return {
        by_code: f"sum by (job, http_route, http_response_status_code) (rate({SECONDS}_count[1m]))",
        total: f"sum by (job, http_route) ({by_code})",
        "job_route:http_server_requests_failed:ratio_rate1m": _ratio(failed, total),
        buckets: f"sum by (job, http_route, le) (rate({SECONDS}_bucket[1m]))",
        f"job_route:{SECONDS}:p95_rate1m": f"histogram_quantile(0.95, {buckets})",
        "job:http_server_pages:rate1m": f"sum by (job) ({total}{{{PAGES}}})",
        pages: f"sum by (job, le) ({buckets}{{{PAGES}}})",
        "job:http_server_pages_seconds:p95_rate1m": f"histogram_quantile(0.95, {pages})",
        "instance:http_server_threads_busy:ratio": (
            "sum by (job, instance) (http_server_active_requests)"
            " / sum by (job, instance) (marketplace_threads)"
        ),
    }


def _grpc(side: str) -> dict[str, str]:
    """What both sides of the calls have."""
    method = "job, grpc_service, grpc_method"
    by_code, total = f"job_method_code:grpc_{side}_handled:rate1m", f"job_method:grpc_{side}_handled:rate1m"
    buckets = f"job_method_le:grpc_{side}_handling_seconds_bucket:rate1m"
    failed = f"sum by ({method}) ({by_code}{{{FAULTS}}})"
    return {
        by_code: f"sum by ({method}, grpc_code) (rate(grpc_{side}_handled_total[1m]))",
        total: f"sum by ({method}) ({by_code})",
        f"job_method:grpc_{side}_failed:ratio_rate1m": _ratio(failed, total),
        buckets: f"sum by ({method}, le) (rate(grpc_{side}_handling_seconds_bucket[1m]))",
        f"job_method:grpc_{side}_handling_seconds:p95_rate1m": f"histogram_quantile(0.95, {buckets})",
    }


def _server() -> dict[str, str]:
    by_method = "sum by (job, grpc_service, grpc_method)"
    return {
        "job:grpc_server_handled:rate1m": f"sum by (job) (job_method:grpc_server_handled:rate1m{{{WORK}}})",
        "job_method:grpc_server_not_found:ratio_rate2m": (
            f'{by_method} (rate(grpc_server_handled_total{{grpc_code="NOT_FOUND"}}[2m]))'
            f" / ({by_method} (rate(grpc_server_handled_total[2m])) > 0)"
        ),
        "instance:grpc_server_pool_busy:ratio": (
            "sum by (job, instance) (grpc_server_pool_busy)"
            " / (sum by (job, instance) (grpc_server_pool_workers) > 0)"
        ),
    }


def _client() -> dict[str, str]:
    return {
        "job:marketplace_recommendations_degraded:ratio_rate2m": (
            "sum by (job) (rate(marketplace_recommendations_degraded_total[2m]))"
            " / (sum by (job) (rate(marketplace_recommendations_asked_total[2m])) > 0)"
        ),
    }


def _telemetry() -> dict[str, str]:
    dropped, exported = "rate(telemetry_spans_dropped_total[5m])", "rate(telemetry_spans_exported_total[5m])"
    return {
        "job_reason:telemetry_spans_dropped:ratio_rate5m": (
            f"sum by (job, reason) ({dropped}) / on (job) group_left ()"
            f" (sum by (job) ({dropped}) + sum by (job) ({exported}) > 0)"
        ),
    }


def _slo(windows: tuple[str, ...]) -> dict[str, str]:
    """Pages, and the shares of them that fail or are slow, by window."""
    recorded: dict[str, str] = {}
    for window in windows:
        total = f"job:http_server_pages:rate{window}"
        failed = (
            f'sum by (job) (rate({SECONDS}_count{{http_response_status_code=~"5..", {PAGES}}}[{window}]))'
        )
        fast = f'sum by (job) (rate({SECONDS}_bucket{{le="{SLOW_S}", {PAGES}}}[{window}]))'
        recorded |= {
            total: f"sum by (job) (rate({SECONDS}_count{{{PAGES}}}[{window}]))",
            f"job:http_server_pages_failed:ratio_rate{window}": _ratio(failed, total),
            f"job:http_server_pages_slow:ratio_rate{window}": f"1 - {fast} / ({total} > 0)",
        }
    return recorded
