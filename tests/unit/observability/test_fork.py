"""A forked child begins from nothing: it never hangs, repeats nothing of its parent's, and has its own ids."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from observability import Telemetry
from tests.unit.observability.conftest import Http, Receiver

FORKS = 12

FORKING = """
import logging, os, signal, sys, threading, time
from prometheus_client import CollectorRegistry
from observability import Telemetry
from observability.testing import MemoryTelemetry
from tests.unit.observability.rpc import channel, sync_server

telemetry = Telemetry("forking", registry=CollectorRegistry())
telemetry.capture_logs()
done = threading.Event()

def logs():
    while not done.is_set():
        logging.getLogger("mine").info("parent")
        time.sleep(0.0005)

def calls(target):
    with channel(MemoryTelemetry(), target) as made:
        while not done.is_set():
            made.unary_unary("/test.Service/returns")(b"x", timeout=60)

with sync_server(telemetry) as target:
    threads = [threading.Thread(target=logs), threading.Thread(target=logs), threading.Thread(target=calls, args=(target,))]
    for thread in threads:
        thread.start()
    hung = aborted = 0
    for number in range(FORKS):
        time.sleep(0.03)
        pid = os.fork()
        if pid == 0:
            logging.getLogger("mine").info("child")
            with telemetry.tracer_provider.get_tracer("mine").start_as_current_span("child"):
                logging.getLogger("mine").error("in a span")
            telemetry.registry.collect()
            ok = telemetry.force_flush(WAIT_S) or WAIT_S < 5
            telemetry.shutdown(WAIT_S)
            os._exit(0 if ok else 1)
        for _ in range(2000):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                is_aborted = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT
                aborted += is_aborted
                if status and not is_aborted:
                    hung += 1
                    sys.stderr.write(f"a child ended with {os.waitstatus_to_exitcode(status)}\\n")
                break
            time.sleep(0.01)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            hung += 1
    done.set()
    for thread in threads:
        thread.join()
telemetry.shutdown(10)
sys.stderr.write(f"hung {hung}\\naborted {aborted}\\n")
"""


def forked(out: Path, wait_s: float, **environ: str) -> int:
    """Run a server that forks under load; its children flush and end within twice wait_s seconds.

    Returns how many of them gRPC's core aborted.
    """
    code = FORKING.replace("FORKS", str(FORKS)).replace("WAIT_S", str(wait_s))
    with out.open("w") as stream:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environ,
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert "hung 0\n" in done.stderr, done.stderr[-3000:]
    aborted = done.stderr.count("Check failed:")  # by gRPC's core
    assert f"aborted {aborted}\n" in done.stderr, done.stderr[-3000:]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    calls = Counter(
        (line["trace_id"], line["span_id"]) for line in lines if line["event"] == "grpc.server.call"
    )
    assert calls
    assert set(calls.values()) == {1}
    children = [line for line in lines if line["event"] == "in a span"]
    assert FORKS - aborted <= len(children) <= FORKS
    assert FORKS - aborted <= len([line for line in lines if line["event"] == "child"]) <= FORKS
    for name in ("trace_id", "span_id"):
        assert len({line[name] for line in children}) == len(children)
    return aborted


def test_a_server_that_forks_under_load(http: Http, tmp_path: Path) -> None:
    """While threads serve and log, no child hangs, no line is written twice, and each child's spans arrive."""
    assert forked(tmp_path / "out", 10) == 0
    assert http.names.count("child") == FORKS


@pytest.mark.full
@pytest.mark.usefixtures("receiver")
def test_grpc_itself_does_not_survive_such_a_fork(tmp_path: Path) -> None:
    """Where spans go by gRPC, children of a process that is within gRPC may not deliver them, or gRPC's core may
    abort one; but they end in time.
    """
    forked(tmp_path / "out", 1)


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
