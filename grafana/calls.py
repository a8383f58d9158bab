"""The dashboard of the calls between services: what the client sees beside what the server sees."""

from collections.abc import Callable

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import colours
from grafana.board import Row, board
from grafana.panels import HALF, Query, graph, named, note

CALLS = 'job=~"$service", grpc_method=~"$method", grpc_service!~"grpc[.].*"'  # health checks are none
WHEN_RED = """
Left is what the **client** saw, right what the **server** saw of the same calls; choose a method above.

- **Only the left is bad:** calls do not arrive, or not in time: `docs/runbooks/ServiceDown.md`.
- **Both are bad:** the server is at fault: click a **◆** under *Duration*: *View trace*, *View log lines*.
- **Many NOT_FOUND:** `docs/runbooks/NotFoundSurge.md`. **Workers busy:** `docs/runbooks/Saturation.md`.
"""


def dashboard() -> Dashboard:
    """The dashboard."""
    about = "Calls between services by method, the client's side on the left and the server's on the right."
    rows: list[Row] = [
        ("What to do when something is red", [note("When red", "Where to look.", WHEN_RED, height=5)]),
        ("Rate", _both(_rate)),
        ("Status codes", _both(_codes)),
        ("Failed", _both(_failed)),
        ("Duration: each ◆ is a trace", _both(_duration)),
        ("Deadline use", _both(_deadline)),
        ("In flight", _both(_in_flight)),
        ("Messages", _both(_messages)),
        _saturation(),
    ]
    return board("grpc", "gRPC", about, rows)


def _both(panel: Callable[[str], timeseries.Panel]) -> list[timeseries.Panel]:
    return [panel("client"), panel("server")]


def _rate(side: str) -> timeseries.Panel:
    return graph(
        f"{side.capitalize()}: calls per second",
        f"Calls that the {side} started, by method. The two sides differ when calls do not arrive: "
        "docs/runbooks/ServiceDown.md.",
        "reqps",
        Query(
            f"sum by (grpc_method) (rate(grpc_{side}_started_total{{{CALLS}}}[$__rate_interval]))",
            "{{grpc_method}}",
        ),
        shades=colours.METHODS,
        width=HALF,
    )


def _codes(side: str) -> timeseries.Panel:
    return graph(
        f"{side.capitalize()}: status codes",
        f"Calls per second that ended on the {side}, by status. Orange NOT_FOUND is an answer; UNAVAILABLE, "
        "INTERNAL, UNKNOWN and DEADLINE_EXCEEDED are faults: docs/runbooks/RecommendationsDegraded.md.",
        "reqps",
        Query(
            f"sum by (grpc_code) (rate(grpc_{side}_handled_total"
            f'{{{CALLS}, grpc_code=~"$code"}}[$__rate_interval]))',
            "{{grpc_code}}",
        ),
        shades=colours.CODES,
        width=HALF,
        stacked=True,
    )


def _failed(side: str) -> timeseries.Panel:
    return graph(
        f"{side.capitalize()}: share that failed",
        f"Share of the calls on the {side}, over 1 minute, that ended with a status that is the server's "
        "fault. NOT_FOUND is not one. From 5 %: docs/runbooks/RecommendationsDegraded.md.",
        "percentunit",
        Query(
            f"max by (grpc_method) (job_method:grpc_{side}_failed:ratio_rate1m{{{CALLS}}})", "{{grpc_method}}"
        ),
        shades=colours.METHODS,
        width=HALF,
        limits=[(0.05, colours.BAD)],
        top=0.1,
    )


def _duration(side: str) -> timeseries.Panel:
    buckets = (
        f"sum by (le, grpc_method) (rate(grpc_{side}_handling_seconds_bucket{{{CALLS}}}[$__rate_interval]))"
    )
    return graph(
        f"{side.capitalize()}: p50, p95, p99",
        f"The time within which 50, 95 and 99 % of calls end, seen from the {side}. Each ◆ is a call: click "
        "it, then View trace. The shop gives a call 500 ms.",
        "s",
        *(
            Query(f"histogram_quantile(0.{q}, {buckets})", f"p{q} {{{{grpc_method}}}}", exemplars=q == "99")
            for q in ("50", "95", "99")
        ),
        shades=colours.QUANTILES,
        width=HALF,
        limits=[(0.5, colours.BAD)],
    )


def _deadline(side: str) -> timeseries.Panel:
    buckets = f"rate(grpc_{side}_deadline_used_ratio_bucket{{{CALLS}}}[$__rate_interval])"
    return graph(
        f"{side.capitalize()}: share of the deadline used",
        f"How much of its deadline a call used, on the {side}: at 100 % the call ends as "
        "DEADLINE_EXCEEDED. Only calls with a deadline count. From 80 %: a ◆ of that time under *Duration* "
        "shows what takes it.",
        "percentunit",
        *(
            Query(
                f"histogram_quantile(0.{q}, sum by (le, grpc_method) ({buckets}))",
                f"p{q} {{{{grpc_method}}}}",
            )
            for q in ("50", "99")
        ),
        shades=colours.QUANTILES,
        width=HALF,
        limits=[(0.8, colours.WARN), (1, colours.BAD)],
        top=1,
    )


def _in_flight(side: str) -> timeseries.Panel:
    return graph(
        f"{side.capitalize()}: calls in flight",
        f"Calls on the {side} that have not ended. A line that only climbs is calls that hang: "
        "docs/runbooks/Saturation.md.",
        "none",
        Query(f"sum by (grpc_method) (grpc_{side}_in_flight{{{CALLS}}})", "{{grpc_method}}"),
        shades=colours.METHODS,
        width=HALF,
    )


def _messages(side: str) -> timeseries.Panel:
    def rate(what: str) -> str:
        return f"sum(rate(grpc_{side}_msg_{what}_total{{{CALLS}}}[$__rate_interval]))"

    return graph(
        f"{side.capitalize()}: messages",
        f"Messages per second that the {side} sent and received: for streams, more than calls. If they "
        "stop while *calls in flight* stays up, the other side hangs.",
        "cps",
        Query(rate("sent"), "sent"),
        Query(rate("received"), "received"),
        shades=colours.MESSAGES,
        width=HALF,
    )


def _saturation() -> Row:
    return "Saturation", [
        graph(
            "Workers busy",
            "Share of the threads that are busy: of the shop's, and of the 64 that recommendations may start "
            "while calls block. From 80 %: docs/runbooks/Saturation.md.",
            "percentunit",
            Query(
                'max by (job) (instance:http_server_threads_busy:ratio{job=~"$service"})', "{{job}} threads"
            ),
            Query('max by (job) (instance:grpc_server_pool_busy:ratio{job=~"$service"})', "{{job}} pool"),
            shades=colours.SERVICES,
            width=HALF,
            limits=[(0.8, colours.BAD)],
            top=1,
        ),
        graph(
            "Wait for a thread",
            "The time within which 50 and 99 % of the calls that arrive at a gRPC server get a thread of its "
            "pool. It rises when handlers block, or when the CPU does not keep up: "
            "docs/runbooks/Saturation.md.",
            "s",
            *(
                Query(
                    f"histogram_quantile(0.{q}, sum by (le, job) "
                    '(rate(grpc_server_pool_queue_seconds_bucket{job=~"$service"}[$__rate_interval])))',
                    f"p{q} {{{{job}}}}",
                )
                for q in ("50", "99")
            ),
            shades=colours.QUANTILES,
            width=HALF,
        ),
        graph(
            "CPU of one core",
            "Share of one core that each process uses; Python code cannot use more. Near 100 %, calls wait: "
            "`docker compose up -d --no-recreate --scale recommendations=2`.",
            "percentunit",
            Query(
                named('rate(process_cpu_seconds_total{job=~"$service"}[$__rate_interval])'),
                "{{job}} {{host_name}}",
            ),
            shades=colours.SERVICES,
            width=HALF,
            limits=[(0.8, colours.WARN), (1, colours.BAD)],
            top=1,
        ),
        graph(
            "NOT_FOUND share",
            "Share of a method's calls, over 2 minutes, that asked for something that does not exist. "
            "From 10 %: docs/runbooks/NotFoundSurge.md.",
            "percentunit",
            Query(
                f"max by (grpc_method) (job_method:grpc_server_not_found:ratio_rate2m{{{CALLS}}})",
                "{{grpc_method}}",
            ),
            shades=colours.METHODS,
            width=HALF,
            limits=[(0.1, colours.BAD)],
            top=0.1,
        ),
    ]
