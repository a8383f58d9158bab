"""What follows from what: of several failures, the one to look at is the one that the others follow from."""

from collections.abc import Iterable, Iterator, Sequence

from tools.doctor.finding import Finding

PART = {"marketplace": "shop", "recommendations": "recommendations"}
# By the name of a check: the parts without which it fails; "own" is the service that it is about.
CAUSES = {
    "shop": ("docker",),
    "recommendations": ("docker",),
    "OTLP": ("Jaeger",),
    "scrape": ("own",),
    "page": ("shop", "recommendations"),
    "metrics": ("shop", "Prometheus", "scrape"),
    "spans": ("own", "Jaeger", "OTLP", "Prometheus", "scrape"),
    "trace": ("recommendations", "Jaeger", "OTLP", "spans"),
    "log": ("own", "page", "docker"),
}


def sorted_out(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings, as they come; a failure that follows from an earlier one says so, not what to do."""
    failed: list[Finding] = []
    for finding in findings:
        cause = _cause(finding, failed)
        if finding.state == "FAIL" and cause is None:
            failed.append(finding)
        yield finding if cause is None else finding.after(cause)


def _cause(finding: Finding, failed: Sequence[Finding]) -> Finding | None:
    if finding.state != "FAIL":
        return None
    names = {PART.get(finding.about, "") if name == "own" else name for name in CAUSES.get(finding.name, ())}
    return next((one for one in failed if one.name in names), None)
