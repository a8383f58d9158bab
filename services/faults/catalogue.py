"""The faults: what each does, and which alert, panel and trace show it. All else reads them here."""

from dataclasses import dataclass

LONGEST_MS = 10_000
VARIABLES = {
    "marketplace": "MARKETPLACE_FAULTS_PORT",
    "recommendations": "RECOMMENDATIONS_FAULTS_PORT",
}
DEFAULT_PORTS = {"marketplace": 9111, "recommendations": 9112}


@dataclass(frozen=True)
class Fault:
    """One fault. share, ms and code are what it does by default; None: it takes none.

    While it is on the alert fires (of that severity first), and the panel of that dashboard rises. exemplars
    selects the histogram whose exemplars lead to a trace of it, or nothing; culprit is what that trace shows.
    held: its requests end when it is healed, not before.
    """

    name: str
    service: str
    does: str
    alert: str
    severity: str
    board: str
    panel: str
    exemplars: str
    culprit: str
    share: float | None = None
    ms: int | None = None
    code: str | None = None
    held: bool = False


_PAGES = 'http_server_request_duration_seconds_bucket{job="marketplace"}'
_SERVER = 'grpc_server_handling_seconds_bucket{job="recommendations", grpc_method="Recommend"}'

_FAULTS = (
    Fault(
        name="slow",
        service="recommendations",
        does="answers a share of calls only after a time",
        alert="PagesLatencyBurn",
        severity="page",
        board="grpc",
        panel="Server: p50, p95, p99",
        exemplars=_SERVER,
        culprit="the span Recommendations/Recommend of recommendations takes the time of its page",
        share=1.0,
        ms=400,
    ),
    Fault(
        name="errors",
        service="recommendations",
        does="fails a share of calls with a gRPC code",
        alert="RecommendationsDegraded",
        severity="page",
        board="bookshop",
        panel="Without recommendations",
        exemplars=_SERVER,
        culprit="the span Recommendations/Recommend of recommendations is an error with the code",
        share=1.0,
        code="INTERNAL",
    ),
    Fault(
        name="not-found",
        service="recommendations",
        does="answers a share of calls with NOT_FOUND",
        alert="NotFoundSurge",
        severity="ticket",
        board="grpc",
        panel="NOT_FOUND share",
        exemplars=_SERVER,
        culprit="the span Recommendations/Recommend says NOT_FOUND, for a category that exists",
        share=1.0,
    ),
    Fault(
        name="page-errors",
        service="marketplace",
        does="answers a share of pages with 500",
        alert="PagesAvailabilityBurn",
        severity="page",
        board="bookshop",
        panel="Burn: pages not answered",
        exemplars=_PAGES.replace("}", ', http_response_status_code="500"}'),
        culprit="the span of the page is an error, and has no call below it",
        share=0.5,
    ),
    Fault(
        name="page-slow",
        service="marketplace",
        does="answers a share of pages only after a time",
        alert="PagesLatencyBurn",
        severity="page",
        board="bookshop",
        panel="Pages: p50, p95, p99",
        exemplars=_PAGES,
        culprit="the span of the page takes the time, and its call is quick",
        share=1.0,
        ms=400,  # of the page's budget: its call is still made
    ),
    Fault(
        name="stuck",
        service="marketplace",
        does="holds a share of the shop's threads until healed, each for at most 60 s at a time",
        alert="Saturation",
        severity="page",
        board="bookshop",
        panel="Threads busy",
        exemplars=_PAGES,
        culprit="the span of a page lasts until the heal, and no call below it does",
        share=0.9,
        held=True,
    ),
    Fault(
        name="leak",
        service="recommendations",
        does="keeps 1 MiB at a share of calls, at most 64 MiB",
        alert="MemoryGrowth",
        severity="ticket",
        board="telemetry",
        panel="Memory",
        exemplars="",
        culprit="none: calls succeed until memory runs out",
        share=0.5,
    ),
    Fault(
        name="crash",
        service="recommendations",
        does="ends at once with exit code 70; compose starts it again two seconds later",
        alert="ServiceRestarted",
        severity="ticket",
        board="bookshop",
        panel="Without recommendations",
        exemplars="",  # of two seconds there is hardly one
        culprit="the one that the shop's log line with UNAVAILABLE names: its call has no span below it",
    ),
)
FAULTS = {fault.name: fault for fault in _FAULTS}
