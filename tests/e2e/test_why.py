"""Why a trace was slow or failed: asked about each fault, in the real services."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from observability.testing import eventually
from services.faults.catalogue import FAULTS, VARIABLES
from tests.e2e.processes import PATIENT, ROOT, Pair, Receiver, free_ports, get, pair
from tests.e2e.run.conftest import VARIABLES as PORTS
from tests.e2e.run.running import RunningPair
from tests.e2e.run.spans import CLIENT, SERVER
from tests.e2e.run.spans import ROOT as PAGE
from tools.traces.trace import span_of
from tools.traces.usual import Usual
from tools.traces.why import MEANINGS, SLOW_MS, Why, why

pytestmark = pytest.mark.full

CALL = "Recommendations/Recommend"


class Shop(NamedTuple):
    """The pair, and the switches of its faults."""

    pair: Pair
    receiver: Receiver
    ports: dict[str, str]

    def faults(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tools.faults", *arguments]
        subprocess.run(command, cwd=ROOT, env=os.environ | self.ports, check=True, capture_output=True)

    def why(self, path: str, count: int, usual: Usual | None = None) -> Why:
        """Why a page was as it was, when so many of its spans have come."""
        trace_id = self.pair.get(path)[2]["traceresponse"].split("-")[1]

        def spans() -> list[tuple[str, object]]:
            return [(name, span) for name, span in self.receiver.spans if span.trace_id.hex() == trace_id]

        eventually(lambda: len(spans()) >= count, 20)
        return why([span_of(name, span) for name, span in spans()], lambda _: usual)  # type: ignore[arg-type]

    def quick(self, path: str, count: int, usual: Usual | None = None) -> Why:
        """The same of a page that is no slower than the objective, which is the first on a machine with time."""
        return eventually(
            lambda: found if _took_ms(found := self.why(path, count, usual)) < SLOW_MS else None, 60
        )  # type: ignore[return-value]


def _took_ms(found: Why) -> float:
    return (found.path[0].span.end_ns - found.path[0].span.start_ns) / 1e6


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    ports = dict(zip(VARIABLES.values(), map(str, free_ports(2)), strict=True))
    with pair(tmp_path_factory.mktemp("why"), **ports, **PATIENT) as (running, receiver):
        yield Shop(running, receiver, ports)


@pytest.fixture
def shop(shared: Shop) -> Iterator[Shop]:
    yield shared
    shared.faults("heal")


EXPECTED = {
    "slow": (3, "recommendations", CALL, "ms were spent in recommendations, in Recommendations/Recommend itself."),
    "errors": (3, "recommendations", CALL, "failed in Recommendations/Recommend: INTERNAL (the catalogue cannot be read)."),
    "not-found": (3, "recommendations", CALL, "answered Recommendations/Recommend with NOT_FOUND"),
    "page-errors": (1, "marketplace", "GET /", "failed in GET /, and no call below it did: 500"),
    "page-slow": (3, "marketplace", "GET /", "ms were spent in marketplace, in GET / itself."),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_it_names_the_span_that_the_fault_is_in(shop: Shop, name: str) -> None:
    """The culprit's service and span, the sentence, and an alert that fires for this fault with its runbook."""
    count, service, span, words = EXPECTED[name]
    takes_time = ["5000"] if name in {"slow", "page-slow"} else []
    shop.faults("on", name, "1", *takes_time)
    found = (shop.why if takes_time else shop.quick)("/", count)
    assert found.culprit is not None
    assert (found.culprit.service, found.culprit.name) == (service, span)
    assert words in found.sentence
    assert found.alert == FAULTS[name].alert
    assert str(found).startswith(found.sentence)


def test_a_page_that_is_held(shop: Shop) -> None:
    """A page whose thread was stuck spent the time in itself."""
    shop.faults("on", "stuck", "1")
    healing = threading.Timer(3, shop.faults, ["heal"])
    healing.start()
    found = shop.why("/", 3)
    healing.join()
    assert found.culprit is not None
    assert (found.culprit.service, found.culprit.name) == ("marketplace", "GET /")


def test_a_leak_is_not_in_a_trace(shop: Shop) -> None:
    """It names nobody, and says where to look, when no single call shows what is wrong."""
    shop.faults("on", "leak", "1")
    found = shop.quick("/", 3)
    assert (found.culprit, found.alert) == (None, "")
    assert "metrics" in found.sentence


def test_slow_is_more_than_the_objective_or_what_is_usual(shop: Shop) -> None:
    """A page of milliseconds is slow where nearly all take microseconds, if there were enough of them."""
    assert shop.quick("/", 3, Usual(100, 0.001, 0.002)).culprit is not None
    assert shop.quick("/", 3, Usual(5, 0.001, 0.002)).culprit is None
    assert shop.quick("/", 3, Usual(100, 1e6, 1e6)).culprit is None


def test_its_own_times_are_the_whole(shop: Shop) -> None:
    """The parts of the critical path are as long as the page, and the call's deadline is a fact."""
    found = shop.why("/", 3)
    assert sum(step.own_ms for step in found.path) == pytest.approx(_took_ms(found))
    assert any(
        re.fullmatch(rf"{CALL} had a deadline of \d+ ms; \d+ ms were left.", fact) for fact in found.facts
    ), found.facts


def test_a_crash(tmp_path: Path) -> None:
    """When recommendations has crashed, the call that got no answer is named, and that no trace says why."""
    ports = dict(zip(VARIABLES.values(), map(str, free_ports(2)), strict=True))
    with pair(tmp_path, **ports, **PATIENT) as (running, receiver):
        crashing = Shop(running, receiver, ports)
        crashing.faults("on", "crash")
        eventually(lambda: "not available now" in running.get("/")[1], 20)
        found = crashing.why("/", 2)
    assert found.culprit is not None
    assert (found.culprit.service, found.culprit.name, found.culprit.kind) == ("marketplace", CALL, "client")
    assert f"got no answer from localhost:{running.grpc} to {CALL}: UNAVAILABLE" in found.sentence
    assert found.alert == "ServiceDown"
    assert any("no trace says" in fact for fact in found.facts)


def test_each_fault_is_drilled_here() -> None:
    """No fault is without such a test."""
    assert FAULTS.keys() == {*EXPECTED, "stuck", "leak", "crash"}


def test_repeated_calls_are_facts() -> None:
    """Attempts that gRPC made again, and calls that the caller made again, are counted."""
    again = replace(CLIENT, span_id="4", kind="client")
    tried = replace(SERVER, attributes={"rpc.grpc.previous_attempts": "2"})
    found = why([PAGE, replace(CLIENT, kind="client"), again, tried], lambda _: None)
    assert found.facts == [
        "recommendations was tried before with Recommend: 2 earlier attempts.",
        "Recommend was called 2 times.",
    ]


def test_its_objective_is_the_alerts() -> None:
    """Slow means the same to an alert."""
    groups = yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"]
    rules = [rule["expr"] for group in groups for rule in group["rules"] if "slow" in rule.get("record", "")]
    assert rules
    assert all(f'le="{SLOW_MS / 1e3:g}"' in rule for rule in rules)


def test_the_command_prints_it(tmp_path: Path) -> None:
    """`make why` prints the words of the page; an unknown trace, and no page at all, are one line."""
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))

    def asked(trace_id: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.why", trace_id]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | ports, capture_output=True, text=True, check=False
        )

    running = RunningPair(tmp_path, ports, "--quiet")
    try:
        running.wait_until_ready()
        page = get(f"http://127.0.0.1:{ports['MARKETPLACE_PORT']}/?category=42")
        trace_id = page[2]["traceresponse"].split("-")[1]
        url = f"http://127.0.0.1:{ports['TRACES_PORT']}/trace/{trace_id}"
        eventually(lambda: get(url)[1].count("<summary>") == 3, 20)
        said = asked(trace_id)
        assert f"NOT_FOUND: {MEANINGS['NOT_FOUND']}." in said.stdout
        assert "usually" in said.stdout
        assert "\nLog lines:\n" in said.stdout
        assert "info recommendations grpc.server.call" in said.stdout
        assert said.stdout.splitlines()[0] in get(url)[1].replace("&#39;", "'")
        unknown = asked("0")
        assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    finally:
        running.kill_all()
    gone = asked(trace_id)
    assert (gone.returncode, gone.stderr.count("\n"), gone.stdout) == (2, 1, "")
