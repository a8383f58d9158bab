"""One page, followed from end to end: answer, sampling, metrics, spans delivered, trace, log lines."""

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

from prometheus_client.parser import text_string_to_metric_families

from tools.doctor.config import COMPOSE_S, Place
from tools.doctor.finding import Finding, failed, ok, skipped
from tools.doctor.tls import Refusal, Refusals, remedy
from tools.jaeger import Jaeger
from tools.prometheus import Prometheus
from tools.web import Answer, ask, within

OK = 200
TRIES = 20
SAMPLED = 1
PAGES = "http_server_request_duration_seconds_count"
EXPORTED = "telemetry_spans_exported_total"
FAILED = "telemetry_spans_dropped_total"


def page(place: Place) -> Iterator[Finding]:
    """Ask for the shop's page, and follow it."""
    began_s = time.time()
    pages = measured(place, "marketplace", PAGES) or 0
    delivered = {service: _fresh(place, service, began_s) for service in place.services}
    refusals = Refusals(place)
    shop = f"http://{place.services['marketplace'].address}/"
    try:
        answer = _sampled(shop)
    except OSError:
        yield skipped("page", "not requested: the shop does not answer")
        return
    # An open circuit lets few pages call: the reason may be another page's.
    yield _served(place, answer, partial(refusals.first, lambda: ask(shop)))
    yield _moved(place, pages)
    trace_id = _trace_id(answer)
    if not trace_id:
        yield _unsampled(answer)
        return
    yield ok("sampling", f"the page is trace {trace_id}")
    yield from _delivered(place, delivered)
    yield from _stored(place, trace_id)
    yield from _logged(place, trace_id)


def _fresh(place: Place, service: str, began_s: float) -> float:
    """How many spans it had delivered at a moment after the start: an older scrape may be of better days."""
    within(place.patience_s, lambda: measured(place, service, EXPORTED, began_s) is not None)
    return measured(place, service, EXPORTED, began_s) or 0


def measured(place: Place, service: str, name: str, since_s: float = 0) -> float | None:
    """The sum of a metric of the service, from itself, else from a scrape since then (s), or None."""
    try:
        text = place.endpoint(service).read()
    except OSError:
        try:
            series = f'{name}{{job="{service}"}}'
            return Prometheus(place.prometheus).value(
                f"sum({series} and timestamp({series}) >= {since_s:.3f})"
            )
        except OSError:
            return None
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    found = [sample.value for sample in samples if sample.name == name]
    return sum(found) if found else None


def _sampled(url: str) -> Answer:
    """A page that has a trace; the last one when none has."""
    for _ in range(TRIES):
        answer = ask(url)
        if _trace_id(answer):
            break
    return answer


def _trace_id(answer: Answer) -> str:
    _, trace_id, _, flags = (answer.headers.get("traceresponse") or "---0").split("-")
    return trace_id if int(flags, 16) & SAMPLED else ""


def _served(place: Place, answer: Answer, refused: Callable[[], Refusal | None]) -> Finding:
    if answer.status != OK:
        return failed("page", f"the shop answered {answer.status}", f"read {place.log_of('marketplace')}")
    if "Recommendations are not available now" in answer.text:
        if refusal := refused():
            words = "it came without recommendations: {} refuses the other's certificate: {}"
            return failed("page", words.format(*refusal), remedy(place, refusal))
        todo = f"look at the trace, and read {place.log_of('recommendations')}; make heal ends all faults"
        return failed("page", "it came without recommendations", todo)
    return ok("page", "the shop answered it, with recommendations")


def _unsampled(answer: Answer) -> Finding:
    if "traceresponse" not in answer.headers:
        return failed("sampling", "pages have no trace at all", "start them without OTEL_SDK_DISABLED")
    todo = "set OTEL_TRACES_SAMPLER to parentbased_always_on or unset it, or raise OTEL_TRACES_SAMPLER_ARG"
    return failed("sampling", f"none of {TRIES} pages was sampled", f"{todo}; then start the services again")


def _moved(place: Place, before: float) -> Finding:
    def now() -> float:
        return measured(place, "marketplace", PAGES) or 0

    if within(place.patience_s, lambda: now() > before):
        return ok("metrics", f"{PAGES} counted it")
    todo = "see that Prometheus scrapes the shop (scrape, above)"
    if not place.composed:
        todo = f"see that {place.endpoint('marketplace').url} answers, or {todo.removeprefix('see ')}"
    return failed("metrics", f"{PAGES} did not move", todo)


def _delivered(place: Place, before: dict[str, float]) -> Iterator[Finding]:
    def silent() -> list[str]:
        return [name for name, count in before.items() if (measured(place, name, EXPORTED) or 0) <= count]

    within(place.patience_s, lambda: not silent())
    late = silent()
    for service in before:
        if service not in late:
            yield ok("spans", f"{service} delivers them")
        else:
            yield _undelivered(place, service)


def _undelivered(place: Place, service: str) -> Finding:
    if measured(place, service, EXPORTED) is None:
        return failed("spans", f"{service} counts none", "see why its metrics are not there (above)", service)
    lost = measured(place, service, FAILED) or 0
    todo = f"set {place.traces_variable} to where a receiver listens (OTLP, above)"
    if not lost:
        todo = f"start it without OTEL_TRACES_EXPORTER=none, or {todo}"
    words = f"{service} delivered none within {place.patience_s:g} s; {lost:.0f} are lost"
    return failed("spans", words, todo, service)


def _stored(place: Place, trace_id: str) -> Iterator[Finding]:
    def services() -> set[str]:
        return {span.service for span in Jaeger(place.jaeger).spans(trace_id)}

    both = set(place.services)
    try:
        found = both if within(place.patience_s, lambda: both <= services()) else services()
    except OSError:
        where = "see above" if place.composed else f"make run shows it: {place.traces}/trace/{trace_id}"
        yield skipped("trace", f"no Jaeger to ask; {where}")
        return
    if both <= found:
        yield ok("trace", f"{place.jaeger}/trace/{trace_id} has both services")
    else:
        words = f"Jaeger has its spans from {', '.join(sorted(found)) or 'no service'}"
        todo = f"compare where the services send traces ({place.traces_variable}) with where Jaeger is"
        yield failed("trace", words, todo)


def _logged(place: Place, trace_id: str) -> Iterator[Finding]:
    for service in place.services:
        name, text = "log", _log(place, service)
        if text is None:
            yield skipped(name, f"{place.log_of(service)} cannot be read from here")
        elif trace_id in text:
            yield ok(name, f"{service} wrote a line with the trace id")
        else:
            todo = f"see where its standard output goes: the line must be in {place.log_of(service)}"
            yield failed(name, f"{service} wrote no line with the trace id", todo, service)


def _log(place: Place, service: str) -> str | None:
    if not place.composed:
        log = place.log(service)
        return log.read_text(errors="replace") if log.is_file() else None
    done = subprocess.run(  # noqa: S603
        ["docker", "compose", "logs", "--no-log-prefix", "--since", "2m", service],  # noqa: S607
        text=True,
        capture_output=True,
        timeout=COMPOSE_S,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None
