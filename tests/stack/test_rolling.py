"""Every process is replaced in turn under load, behind HAProxy: no page fails, and no span or line is lost.

ROLLING=20000 in the environment sets how many pages there are at least; -s shows the counts.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.testing import eventually
from tests.crowd import Crowd
from tests.e2e.processes import PATIENT, Receiver, Service, free_ports, get
from tests.hosts import Names

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not there: apt install haproxy")

PAGES = int(os.environ.get("ROLLING", "3000"))
PEOPLE, PAUSE_S = 10, 0.01  # fewer than the calls that one shop makes at once
SETTLE_S = 2.0
HOSTS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
CONFIGURATION = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 10s
    retries 3
    option redispatch
    retry-on conn-failure empty-response
frontend people
    bind 127.0.0.1:{port}
    default_backend shops
backend shops
    balance roundrobin
    option httpchk GET /readyz
    default-server check inter 100ms fall 1 rise 1
    server first 127.0.0.1:{first}
    server second 127.0.0.1:{second}
"""


class Street:
    """Three instances of recommendations, two shops and a proxy before them."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.received = stack.enter_context(closing(Receiver()))
        names = stack.enter_context(closing(Names(*HOSTS)))
        self.port, self._calls, self._metrics, *self._shops = free_ports(7)
        self._directory, self._stack = directory, stack
        self._variables = {
            "RECOMMENDATIONS_HOST": names.name,
            "RECOMMENDATIONS_PORT": str(self._calls),
            "RECOMMENDATIONS_METRICS_PORT": str(self._metrics),
            **PATIENT,
            "DRAIN_S": "2",
            "MARKETPLACE_CLIENT_CONNECTIONS": "800",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.received.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        self.all: list[Service] = []
        self.instances = {name: self._start(name) for name in (*HOSTS, "first", "second")}
        for name in self.instances:
            eventually(lambda name=name: self._handled(name) is not None, 60)  # type: ignore[misc]
        for shop in self._shops[::2]:
            eventually(lambda shop=shop: "<li>" in get(f"http://127.0.0.1:{shop}/")[1], 60)  # type: ignore[misc]
        file = directory / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(port=self.port, first=self._shops[0], second=self._shops[2]))
        proxy = subprocess.Popen([str(HAPROXY), "-f", str(file)])
        stack.callback(proxy.wait)
        stack.callback(proxy.terminate)
        eventually(lambda: get(f"http://127.0.0.1:{self.port}/")[0] == 200, 30)

    def replace(self, name: str) -> None:
        """Stop an instance, start another one, and wait until that has work."""
        assert self.instances[name].stop() == 0
        self.instances[name] = self._start(name)
        eventually(lambda: self._handled(name), 120)

    def stop(self) -> None:
        """Stop all that serve."""
        for instance in self.instances.values():
            assert instance.stop() == 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """The log of all instances that there have been."""
        for service in self.all:
            yield from map(json.loads, service.log.read_text().splitlines())

    def _start(self, name: str) -> Service:
        own = self._directory / f"{name}-{len(self.all)}"
        own.mkdir()
        service = "recommendations" if name in HOSTS else "marketplace"
        at = {"BIND_HOST": name} if name in HOSTS else {}
        if not at:
            place = 0 if name == "first" else 2
            at = dict(
                zip(
                    ("MARKETPLACE_PORT", "MARKETPLACE_METRICS_PORT"),
                    map(str, self._shops[place:]),
                    strict=False,
                )
            )
        started = Service(service, own, **self._variables | at)
        self.all.append(started)
        self._stack.callback(started.process.wait)
        self._stack.callback(started.process.kill)
        return started

    def _handled(self, name: str) -> float | None:
        """How many pages or calls an instance has answered; None if it does not answer yet."""
        series, host, port = ("grpc_server_handled_total", name, self._metrics)
        if name not in HOSTS:
            series, host = "http_server_request_duration_seconds_count", "127.0.0.1"
            port = self._shops[1 if name == "first" else 3]
        status, metrics, _ = get(f"http://{host}:{port}/metrics", "text/plain")
        counts = re.findall(
            rf'^{series}{{.*(?:"Recommend"|http_route="/(?:books)?").*}} (\S+)$', metrics, re.MULTILINE
        )
        return sum(map(float, counts)) if status == 200 else None


def test_every_process_is_replaced(tmp_path: Path) -> None:
    """All pages are 200 with new recommendations; each has its span and line, and its call on both sides."""
    with ExitStack() as stack:
        street = Street(stack, tmp_path)
        time.sleep(SETTLE_S)  # what was asked until here is written and sent
        eventually(lambda: is_settled(count(street)), 30)
        before = count(street)
        replaced = 0
        with closing(Crowd(street.port, PEOPLE, PAUSE_S)) as crowd:
            while replaced < len(street.instances) or len(crowd.pages) < PAGES:
                street.replace([*street.instances][replaced % len(street.instances)])
                replaced += 1
        street.stop()
        pages = crowd.pages
        print(f"{len(pages)} pages, {replaced} processes replaced: {Counter(page.status for page in pages)}")
        assert [page for page in pages if page.status != 200] == []
        assert {page.shows for page in pages} == {"new", ""}, Counter(
            line["status"] for line in street.lines() if line["event"] == "grpc.client.call"
        )
        found = count(street) - before  # what has stopped sends nothing more
        print(found)
        calls = sum(page.shows == "new" for page in pages)
        assert found["spans of pages"] == found["lines of pages"] == len(pages)
        assert found["spans of calls"] == found["lines of calls"] == calls
        assert found["spans of calls served"] == found["lines of calls served"]
        assert found["answers"] == calls


def is_settled(found: Counter[str]) -> bool:
    """Whether nothing is still on its way."""
    pairs = ("pages", "calls", "calls served")
    return all(found[f"spans of {each}"] == found[f"lines of {each}"] > 0 for each in pairs)


def count(street: Street) -> Counter[str]:
    """Spans that were received, and lines; answers are the calls served whose answer the shop had."""
    spans = [span for _, span in [*street.received.spans]]
    lines = Counter(line["event"] for line in street.lines())
    calls = {
        span.span_id for span in spans if span.kind == Span.SPAN_KIND_CLIENT and "Recommend" in span.name
    }
    served = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER and "Recommend" in span.name]
    answers = {
        span.parent_span_id
        for span in served
        if any(each.key == "rpc.status_code" and each.value.string_value == "OK" for each in span.attributes)
    }
    return Counter(
        {
            "spans of pages": sum(span.kind == Span.SPAN_KIND_SERVER for span in spans) - len(served),
            "lines of pages": lines["http.server.request"],
            "spans of calls": len(calls),
            "lines of calls": lines["grpc.client.call"],
            "spans of calls served": len(served),
            "lines of calls served": lines["grpc.server.call"],
            "answers": len(calls & answers),
        }
    )
