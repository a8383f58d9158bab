"""Whether each part of the stack is there and works."""

import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from tools.doctor import tls
from tools.doctor.config import Place
from tools.doctor.finding import Finding, failed, ok, skipped
from tools.jaeger import Jaeger
from tools.ports import listens
from tools.prometheus import Prometheus
from tools.web import ask, ask_json, within

OK = 200
SKEW_S = 5.0


def docker(place: Place) -> Iterator[Finding]:
    """Docker, if it is there, may be asked what compose runs."""
    if place.forbidden:
        todo = (
            "join the group docker (sudo usermod -aG docker $USER, then log in again), or run this with sudo"
        )
        yield failed("docker", "permission denied: what compose runs cannot be seen", todo)


def shop(place: Place) -> Iterator[Finding]:
    """The shop listens, is ready, and has recommendations at hand."""
    port = place.services["marketplace"]
    try:
        answer = ask(f"http://{port.address}/readyz")
    except OSError as error:
        yield failed("shop", f"{port.address}: {_reason(error)}", _start(place, "marketplace"))
        return
    if answer.status == OK:
        yield ok("shop", f"http://{port.address} is ready")
    else:
        yield failed("shop", f"/readyz says {answer.text.strip()}", f"read {place.log_of('marketplace')}")


def recommendations(place: Place) -> Iterator[Finding]:
    """Recommendations listens, and its health is SERVING."""
    port = place.services["recommendations"]
    if not listens(port):
        words = f"{port.address}: nobody listens"
        yield failed("recommendations", words, _start(place, "recommendations"))
        return
    fault, refusal = tls.health(place)
    if not fault:
        yield ok("recommendations", f"{port.address} is SERVING{' over TLS' if place.tls else ''}")
    elif refusal:
        words = f"{port.address}: the TLS handshake fails: {refusal[1]}"
        yield failed("recommendations", words, tls.remedy(place, refusal))
    else:
        todo = f"it stops or is stuck: read {place.log_of('recommendations')}, then start it again"
        yield failed("recommendations", f"{port.address}: its health is not SERVING", todo)


def otlp(place: Place) -> Iterator[Finding]:
    """A receiver of traces listens."""
    if listens(place.otlp):
        yield ok("OTLP", f"{place.otlp.address} takes connections")
    elif place.otlp_expected:
        todo = "docker compose up --wait jaeger" if place.composed else "start what listens there (Jaeger), "
        todo += "" if place.composed else f"or unset {place.otlp.variable} to see traces in the terminal"
        yield failed("OTLP", f"{place.otlp.address}: nothing listens, so traces are lost", todo)
    else:
        yield skipped("OTLP", "OTEL_EXPORTER_OTLP_ENDPOINT is not set: make run shows traces in its terminal")


def prometheus(place: Place) -> Iterator[Finding]:
    """Prometheus is there and scrapes both services."""
    server = Prometheus(place.prometheus)
    try:
        within(place.patience_s, lambda: all(_scraped(server, job) for job in place.services))
        targets = server.targets()
    except OSError as error:
        if place.prometheus_expected:
            todo = "docker compose up --wait prometheus" if place.composed else "start make run again"
            yield failed("Prometheus", f"{place.prometheus}: {_reason(error)}; there are no dashboards", todo)
        else:
            yield skipped("Prometheus", "none here: make run starts it where prometheus is on PATH")
        return
    yield ok("Prometheus", f"{place.prometheus} answers")
    for job in place.services:
        yield _target(place, job, [target for target in targets if target["labels"].get("job") == job])


def _scraped(server: Prometheus, job: str) -> bool:
    """Whether it has a target of the job, and each is up: one that just began, or ended, takes a moment."""
    return {target["health"] for target in server.targets() if target["labels"].get("job") == job} == {"up"}


def _target(place: Place, job: str, targets: list[dict[str, Any]]) -> Finding:
    if not targets:
        todo = f"start {job} ({place.start}), or fix scrape_configs in prometheus.yml"
        return failed("scrape", f"Prometheus has no target of job {job}", todo, job)
    down = [target for target in targets if target["health"] != "up"]
    if not down:
        return ok("scrape", f"{len(targets)} target(s) of {job} up")
    words = "; ".join(f"{x['scrapeUrl']} is {x['health']}: {x['lastError']}" for x in down)
    todo = f"start {job} ({place.start})"
    if not place.composed:
        todo += f"; if it runs, compare {place.metrics[job].variable} with prometheus.yml"
    if place.endpoint(job).is_guarded:
        todo += "; METRICS_* are set: the job in prometheus.yml needs tls_config, authorization or both"
    return failed("scrape", words, todo, job)


def jaeger(place: Place) -> Iterator[Finding]:
    """Jaeger answers, where there must be one."""
    try:
        names = Jaeger(place.jaeger).services()
    except OSError as error:
        if place.composed:
            todo = "docker compose up --wait jaeger; docker compose logs jaeger"
            yield failed("Jaeger", f"{place.jaeger}: {_reason(error)}", todo)
        else:
            yield skipped("Jaeger", f"none at {place.jaeger}")
        return
    yield ok("Jaeger", f"{place.jaeger} knows {len(names)} service(s)")


def logs(place: Place) -> Iterator[Finding]:
    """The log store answers, where there must be one."""
    return _healthy(place, "logs", "logs", f"{place.log_store}/health")


def alertmanager(place: Place) -> Iterator[Finding]:
    """Alertmanager answers, where there must be one."""
    return _healthy(place, "Alertmanager", "alertmanager", f"{place.alertmanager}/-/healthy")


def _healthy(place: Place, name: str, service: str, url: str) -> Iterator[Finding]:
    if not place.composed:
        yield skipped(name, "it runs only under docker compose")
        return
    todo = f"docker compose up --wait {service}; docker compose logs {service}"
    try:
        status = ask(url).status
    except OSError as error:
        yield failed(name, f"{url}: {_reason(error)}", todo)
        return
    yield ok(name, f"{url} is well") if status == OK else failed(name, f"{url} answers {status}", todo)


def grafana(place: Place) -> Iterator[Finding]:
    """Grafana answers, where there must be one."""
    if not place.composed:
        yield skipped("Grafana", "it runs only under docker compose")
        return
    try:
        health = json.dumps(ask_json(f"{place.grafana}/api/health"))
    except OSError as error:
        todo = "docker compose up --wait grafana; docker compose logs grafana"
        yield failed("Grafana", f"{place.grafana}: {_reason(error)}", todo)
        return
    if '"ok"' in health:
        yield ok("Grafana", f"{place.grafana} works")
    else:
        yield failed("Grafana", f"its database must be ok, got {health}", "docker compose logs grafana")


def clock(place: Place) -> Iterator[Finding]:
    """The clocks agree: a dashboard asks for the last minutes by the browser's clock."""
    addresses = {"the shop": f"http://{place.services['marketplace'].address}/livez"}
    addresses["Prometheus"] = f"{place.prometheus}/-/ready"
    for name, address in addresses.items():
        try:
            said = ask(address).headers.get("Date")
        except OSError:
            continue
        if said is not None:
            yield skew(name, said, time.time())


def skew(name: str, said: str, now_s: float) -> Finding:
    """How far a Date header is from this machine's clock."""
    off_s = parsedate_to_datetime(said).timestamp() - now_s
    if abs(off_s) <= SKEW_S:
        return ok("clock", f"{name}'s clock agrees with this machine's")
    words = f"{name}'s is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} this machine's"
    return failed("clock", words, "set the clocks by NTP: dashboards show nothing, and alerts come late")


def _start(place: Place, service: str) -> str:
    return f"start it: {place.start}; if it ended, {place.log_of(service)} says why"


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error)
