"""The home dashboard: is the shop well, and where to look next if it is not."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import colours, slo
from grafana.board import Row, board
from grafana.front import front
from grafana.objectives import objectives
from grafana.panels import HALF, Query, graph, heat, note, number, rows, up
from grafana.whom import who_calls_whom

PAGES = f'job=~"$service", {slo.PAGES}'
COUNT = "http_server_request_duration_seconds_count"
BUCKET = "http_server_request_duration_seconds_bucket"
CALLS = 'job=~"$service", grpc_method=~"$method", grpc_service!~"grpc[.].*"'  # health checks are none

WHEN_RED = """
**What to do when something is red**
1. *Alerts* names it: read `docs/runbooks/<alert>.md` in the repository.
2. *Up* says DOWN: `docker compose ps`, then `docs/runbooks/ServiceDown.md`.
3. Pages not answered or slow: click a **◆** of the same minute under *Latency*, then *View trace*.
4. The red or the long span is the culprit; *View log lines* of the same **◆** has what it logged.
5. Only *without recommendations*: the pages go on; `docs/runbooks/RecommendationsDegraded.md`.
"""


def dashboard() -> Dashboard:
    """The dashboard."""
    about = "Is the shop well? Objectives, traffic, errors, latency, and who calls whom."
    return board(
        "bookshop", "Bookshop", about, [_well(), objectives(), _traffic(), _latency(), _calls(), front()]
    )


def _well() -> Row:
    def count(series: str) -> str:
        return f"sum(increase({series}[$__range]))"

    failed = count(f'{COUNT}{{{PAGES}, http_response_status_code=~"5.."}}')
    fast = count(f'{BUCKET}{{{PAGES}, le="{slo.SLOW_S}"}}')
    every = f"({count(f'{COUNT}{{{PAGES}}}')} > 0)"
    return "Is it well?", [
        number(
            "Up",
            "Whether Prometheus reaches each service. DOWN: docs/runbooks/ServiceDown.md.",
            "none",
            Query(up('job=~"$service"'), "{{job}}"),
            limits=[(1, colours.GOOD)],
            below=colours.BAD,
            meanings={"0": "DOWN", "1": "up"},
            empty="no target",
        ),
        number(
            "Pages answered",
            "Share of the pages in the time shown that were not answered with 5xx. Below the objective of "
            "99.9 %: docs/runbooks/PagesAvailabilityBurn.md.",
            "percentunit",
            Query(f"1 - ({failed} or vector(0)) / {every}"),
            limits=[(0.999, colours.GOOD)],
            below=colours.BAD,
            decimals=2,
        ),
        number(
            "Pages within 300 ms",
            "Share of the pages in the time shown that took at most 300 ms. Below the objective of 95 %: "
            "docs/runbooks/PagesLatencyBurn.md.",
            "percentunit",
            Query(f"{fast} / {every}"),
            limits=[(0.95, colours.GOOD)],
            below=colours.BAD,
            decimals=1,
        ),
        number(
            "Pages per second",
            "Pages that readers requested, over the last minute. 0 although people came before: "
            "docs/runbooks/NoTraffic.md.",
            "reqps",
            Query('sum(job:http_server_pages:rate1m{job=~"$service"})'),
            decimals=1,
        ),
        number(
            "Without recommendations",
            "Share of the calls, over 2 minutes, whose page goes without recommendations. From 5 %: "
            "docs/runbooks/RecommendationsDegraded.md.",
            "percentunit",
            Query('max(job:marketplace_recommendations_degraded:ratio_rate2m{job=~"$service"})'),
            limits=[(0.01, colours.WARN), (0.05, colours.BAD)],
            decimals=1,
        ),
        number(
            "Alerts that fire",
            "How many alerts fire, of all services. The table below names them. Whether they reach "
            "anybody: docs/runbooks/Watchdog.md.",
            "none",
            Query('count(ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)'),
            limits=[(1, colours.BAD)],
        ),
        rows(
            "Alerts",
            "Alerts that are firing or pending. Each has a runbook: docs/runbooks/<alert>.md.",
            Query('max by (alertname, severity, alertstate, job) (ALERTS{alertname!="Watchdog"})'),
            names={"alertname": "Alert", "job": "Service", "severity": "Severity", "alertstate": "State"},
            width=HALF,
        ),
        note("When red", "What to do, step by step.", WHEN_RED, width=HALF, height=7),
    ]


def _traffic() -> Row:
    def rate(by: str, series: str) -> str:
        return f"sum by ({by}) (rate({series}[$__rate_interval]))"

    pages = f"{COUNT}{{{PAGES}}}"
    handled = f'grpc_client_handled_total{{{CALLS}, grpc_code=~"$code"}}'
    return "Traffic and errors", [
        graph(
            "Pages by route",
            "Pages per second, by route. All routes fall: docs/runbooks/NoTraffic.md; one does: see its log "
            "lines, by *Logs of this time* above.",
            "reqps",
            Query(rate("http_route", pages), "{{http_route}}"),
            shades=colours.ROUTES,
            stacked=True,
        ),
        graph(
            "Pages by HTTP status",
            "Pages per second, by status: 4xx is the reader's mistake, 5xx the shop's: "
            "docs/runbooks/PagesAvailabilityBurn.md.",
            "reqps",
            Query(rate("http_response_status_code", pages), "{{http_response_status_code}}"),
            shades=colours.STATUSES,
            stacked=True,
        ),
        graph(
            "Calls by gRPC status",
            "The shop's calls per second, by status. NOT_FOUND is a category that does not exist "
            "(docs/runbooks/NotFoundSurge.md); click a series to see its calls.",
            "reqps",
            Query(rate("grpc_code", handled), "{{grpc_code}}"),
            shades=colours.CODES,
            stacked=True,
            link="/d/grpc?var-code=${__field.labels.grpc_code}&${service:queryparam}&${__url_time_range}",
        ),
    ]


def _latency() -> Row:
    buckets = f"{BUCKET}{{{PAGES}}}[$__rate_interval]"

    def quantile(of: str, by: str = "le") -> str:
        return f"histogram_quantile({of}, sum by ({by}) (rate({buckets})))"

    return "Latency: each ◆ is a trace", [
        heat(
            "How long pages take",
            "How many pages took how long. Each ◆ is one page: click it, then View trace, to see where its "
            "time went.",
            Query(f"sum by (le) (increase({buckets}))", "{{le}}", exemplars=True),
        ),
        graph(
            "Pages: p50, p95, p99",
            "The time within which 50, 95 and 99 % of pages are answered; the objective is 300 ms for "
            "95 %. Red: docs/runbooks/PagesLatencyBurn.md.",
            "s",
            *(Query(quantile(f"0.{q}"), f"p{q}", exemplars=q == "99") for q in ("50", "95", "99")),
            shades=colours.QUANTILES,
            width=HALF,
            limits=[(slo.SLOW_S, colours.BAD)],
        ).height(9),
        graph(
            "p99 by HTTP status",
            "The slowest pages of each status. A ◆ of 404 or 5xx leads to the trace of a page that failed.",
            "s",
            Query(
                quantile("0.99", "le, http_response_status_code"),
                "{{http_response_status_code}}",
                exemplars=True,
            ),
            shades=colours.STATUSES,
            width=HALF,
        ),
        graph(
            "p95 by route",
            "The time within which 95 % of the pages of a route are answered: is it the whole shop, or one "
            "page? Then a ◆ of that time, on the left, is a trace of it.",
            "s",
            Query(quantile("0.95", "le, http_route"), "{{http_route}}"),
            shades=colours.ROUTES,
            width=HALF,
        ),
    ]


def _calls() -> Row:
    return "Who calls whom, and what they go without", [
        who_calls_whom(CALLS),
        graph(
            "Pages without recommendations",
            "Pages per second that were shown without new recommendations, by the status of the failed call, "
            "or the shop's own reason: docs/runbooks/RecommendationsDegraded.md.",
            "reqps",
            Query(
                "sum by (reason) (rate(marketplace_recommendations_degraded_total"
                '{job=~"$service"}[$__rate_interval]) > 0)',
                "{{reason}}",
            ),
            empty="none goes without: good",
            shades=colours.CODES,
            stacked=True,
        ),
        graph(
            "Requests in flight",
            "Requests that the shop has not answered yet. A line that only climbs is pages that hang: "
            "docs/runbooks/Saturation.md.",
            "none",
            Query('sum by (job) (http_server_active_requests{job=~"$service"})', "{{job}}"),
            shades=colours.SERVICES,
        ),
        graph(
            "Threads busy",
            "Share of the shop's threads that serve a page. From 80 %, pages wait: "
            "docs/runbooks/Saturation.md.",
            "percentunit",
            Query('max by (job) (instance:http_server_threads_busy:ratio{job=~"$service"})', "{{job}}"),
            shades=colours.SERVICES,
            limits=[(0.8, colours.BAD)],
            top=1,
        ),
        graph(
            "Circuit open",
            "Share of the shop's instances that do not call recommendations, but for a few probes, because "
            "calls fail: docs/runbooks/RecommendationsCircuitOpen.md.",
            "percentunit",
            Query(
                'avg by (job) (marketplace_recommendations_circuit_open{job=~"$service"})',
                "{{job}}",
            ),
            shades=colours.SERVICES,
            top=1,
        ),
    ]
