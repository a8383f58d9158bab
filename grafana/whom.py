"""Who calls whom: a table of the calls between services, made of what both sides count."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.panels import Query, rows

METHOD = "caller, grpc_service, grpc_method"
# The client's series do not know who answers: the job that serves the method is found by the server's.
CALLEE = (
    "* on (grpc_service, grpc_method) group_left (callee) topk by (grpc_service, grpc_method) (1, "
    "group by (grpc_service, grpc_method, callee) (label_replace("
    'last_over_time(grpc_server_started_total[$__range]), "callee", "$1", "job", "(.+)")))'
)


def who_calls_whom(calls: str) -> Builder[Panel]:
    """The table, of the calls that the matchers select."""

    def of_caller(series: str) -> str:
        return f'label_replace({series}, "caller", "$1", "job", "(.+)")'

    rate = of_caller(f"rate(grpc_client_handled_total{{{calls}}}[$__range])")
    not_ok = of_caller(f'rate(grpc_client_handled_total{{{calls}, grpc_code!="OK"}}[$__range])')
    seconds = of_caller(f"rate(grpc_client_handling_seconds_bucket{{{calls}}}[$__range])")
    total = f"(sum by ({METHOD}) ({rate}) > 0)"
    return rows(
        "Who calls whom",
        "Each kind of call between services in the time shown. Not OK counts NOT_FOUND too, which is an "
        "answer. One that stands out: choose its method on the dashboard *gRPC*.",
        Query(f"{total} {CALLEE}"),
        Query(f"(sum by ({METHOD}) ({not_ok}) or 0 * {total}) / {total} {CALLEE}"),
        Query(f"histogram_quantile(0.99, sum by (le, {METHOD}) ({seconds})) {CALLEE}"),
        names={
            "caller": "Caller",
            "callee": "Called",
            "grpc_service": "gRPC service",
            "grpc_method": "Method",
            "Value #A": "Calls per second",
            "Value #B": "Not OK",
            "Value #C": "p99",
        },
        units={"Value #A": "reqps", "Value #B": "percentunit", "Value #C": "s"},
    )
