"""A forked child begins from nothing: it never hangs, repeats nothing of its parent's, and has its own ids."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from observability import Telemetry
from tests.unit.observability.conftest import Http, Receiver

FORKS = 12
FEW = 4  # that gRPC may lose
SERVED = {"http.server.request", "grpc.server.call"}

FORKING = """
import json, logging, os, sys, threading, time
from flask import Flask
from prometheus_client import CollectorRegistry
from observability import Telemetry
from observability.testing import MemoryTelemetry
from tests.unit.observability.rpc import channel, sync_server

telemetry = Telemetry("forking", registry=CollectorRegistry())
telemetry.capture_logs()
done = threading.Event()
app = Flask("forking")
app.add_url_rule("/", view_func=lambda: "")
telemetry.instrument_flask(app)

def log():
    while not done.is_set():
        logging.getLogger("mine").info("parent")
        time.sleep(0.0005)

def pages():
    while not done.is_set():
        app.test_client().get("/")

def calls():
    with sync_server(telemetry) as target, channel(MemoryTelemetry(), target) as made:
        while not done.is_set():
            made.unary_unary("/test.Service/returns")(b"x", timeout=60)

def in_child():
    logging.getLogger("mine").info("child")
    with telemetry.tracer_provider.get_tracer("mine").start_as_current_span("child"):
        logging.getLogger("mine").error("in a span")
    telemetry.registry.collect()
    telemetry.force_flush(WAIT_S)
    telemetry.shutdown(WAIT_S)

def outcome_of(child):
    for _ in range(2000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None

threads = [threading.Thread(target=each) for each in (log, log, LOAD)]
for thread in threads:
    thread.start()
outcomes = []
for number in range(FORKS):
    time.sleep(0.03)
    child = os.fork()
    if child == 0:
        in_child()
        os._exit(0)
    outcomes.append(outcome_of(child))
done.set()
for thread in threads:
    thread.join()
telemetry.shutdown(10)
sys.stderr.write(f"outcomes {json.dumps(outcomes)}")
"""


def forked(out: Path, load: str, wait_s: float = 10) -> list[Any]:
    """How the children of a process that forks under load ended: 0 is well, None hung. No line is written twice.

    Coverage would hang a child: it does not let go of its lock at a fork.
    """
    code = FORKING.replace("FORKS", str(FORKS)).replace("LOAD", load).replace("WAIT_S", str(wait_s))
    with out.open("w") as stream:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes: list[Any] = json.loads(done.stderr.rpartition("outcomes ")[2].splitlines()[0])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    served = Counter((line["trace_id"], line["span_id"]) for line in lines if line["event"] in SERVED)
    assert set(served.values()) == {1}
    children = [line for line in lines if line["event"] == "in a span"]
    for name in ("trace_id", "span_id"):
        assert len({line[name] for line in children}) == len(children)
    for event in ("child", "in a span"):
        assert outcomes.count(0) <= sum(line["event"] == event for line in lines) <= FORKS
    return outcomes


def test_a_process_that_forks_under_load(http: Http, tmp_path: Path) -> None:
    """While threads serve and log, no child hangs, no line is written twice, and each child's spans arrive."""
    assert forked(tmp_path / "out", "pages") == [0] * FORKS
    assert http.names.count("child") == FORKS


@pytest.mark.full
def test_a_process_that_forks_within_grpc(http: Http, tmp_path: Path) -> None:
    """gRPC's core may end or hang a child now and then, as it does without this package; the others are well."""
    outcomes = forked(tmp_path / "out", "calls")
    assert outcomes.count(0) >= FORKS - FEW
    assert http.names.count("child") >= outcomes.count(0)


@pytest.mark.full
@pytest.mark.usefixtures("receiver")
def test_a_process_that_forks_within_grpc_and_exports_by_it(tmp_path: Path) -> None:
    """Children may not deliver their spans, but end in time."""
    assert forked(tmp_path / "out", "calls", wait_s=1).count(0) >= FORKS - FEW


def in_child(telemetry: Telemetry) -> None:
    """What a child does."""
    telemetry.tracer_provider.get_tracer("mine").start_span("child").end()
    telemetry.shutdown()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_multiprocessing(receiver: Receiver) -> None:
    """A child of multiprocessing exports its own spans, under its own instance, and ends."""
    telemetry = Telemetry("parent", registry=CollectorRegistry())
    telemetry.tracer_provider.get_tracer("mine").start_span("parent").end()
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(telemetry,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert receiver.names == ["child"]
    instance = receiver.resource["service.instance.id"]
    telemetry.shutdown()
    assert receiver.names == ["child", "parent"]
    assert receiver.resource["service.instance.id"] != instance
