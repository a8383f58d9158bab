"""A real gunicorn with three workers, with the hooks that come with the package."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from observability.testing import eventually
from tests.e2e.processes import ROOT, Receiver, free_ports, get

WORKERS = 3
both_ways = pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])


class Instances(Receiver):
    """Which instances of the service sent spans, by the process that made them."""

    def __init__(self) -> None:
        self.of: defaultdict[int, set[str]] = defaultdict(set)
        super().__init__()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                pids = [pair.value.int_value for pair in span.attributes if pair.key == "pid"]
                self.of[pids[0]].add(named["service.instance.id"])
        return super().Export(request, context)


class Gunicorn:
    """gunicorn as a process, ready."""

    def __init__(self, directory: Path, receiver: Receiver, *options: str, **variables: str) -> None:
        self.port, self.metrics_port = free_ports(2)
        self.shared = directory / "shared"
        self.shared.mkdir(exist_ok=True)
        self.errors = directory / "errors"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        environ = inherited | {
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(self.metrics_port),
            "PROMETHEUS_MULTIPROC_DIR": str(self.shared),
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "python:observability.gunicorn", *options]
        command += ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{self.port}", "--no-control-socket"]
        command += ["tests.unit.observability.gunicorn_app:app"]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=directory, env=environ | variables, stdout=subprocess.DEVNULL, stderr=errors
            )

    def ask(self, path: str = "/pid") -> int:
        """Ask for a page; the process that answered."""
        return int(get(f"http://127.0.0.1:{self.port}{path}")[1] or 0)

    def value(self, name: str, **labels: str) -> float:
        """The sum over the samples that have these labels."""
        text = get(f"http://127.0.0.1:{self.metrics_port}/metrics")[1]
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def stop(self) -> int:
        """End it as its user does; the exit code."""
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def gunicorn(directory: Path, *options: str, **variables: str) -> Iterator[tuple[Gunicorn, Instances]]:
    receiver = Instances()
    running = Gunicorn(directory, receiver, *options, **variables)
    try:
        yield running, receiver
    finally:
        if running.process.poll() is None:
            running.stop()
        receiver.close()


def ask_until(running: Gunicorn, workers: int, known: set[int]) -> int:
    """Ask until that many processes have answered, those known among them; how often it took."""
    answered = 0
    with ThreadPoolExecutor(WORKERS) as pool:

        def all_answered() -> bool:
            nonlocal answered
            pids = [pid for pid in pool.map(lambda _: running.ask(), range(WORKERS)) if pid]
            known.update(pids)
            answered += len(pids)
            return len(known) == workers

        eventually(all_answered, 30)
    return answered


@both_ways
def test_each_worker_sends_its_own_traces_and_all_share_their_metrics(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Each worker exports its spans as a separate instance, and /metrics is the sum of them all.

    A file that is empty yet, as a worker that starts has it for a moment, is no error.
    """
    with gunicorn(tmp_path, *options) as (running, receiver):
        pids: set[int] = set()
        asked = ask_until(running, WORKERS, pids)
        (running.shared / "counter_1.db").touch()
        eventually(lambda: len(receiver.spans) == asked)
        assert set(receiver.of) == pids
        assert all(len(instances) == 1 for instances in receiver.of.values())
        assert len(set.union(*receiver.of.values())) == WORKERS
        count = "http_server_request_duration_seconds_count"
        eventually(lambda: running.value(count, http_route="/pid", http_response_status_code="200") == asked)
        eventually(lambda: running.value("target_info", service_name="shop") == 1)
        eventually(lambda: running.value("telemetry_spans_exported_total") == asked)
        eventually(lambda: running.value("telemetry_span_queue_length") == 0)
        assert running.stop() == 0


@both_ways
def test_a_killed_worker(options: tuple[str, ...], tmp_path: Path) -> None:
    """A worker that is killed leaves the gauges but not the counters, and the one after it is observed too."""
    with gunicorn(tmp_path, *options) as (running, receiver):
        pids: set[int] = set()
        asked = ask_until(running, WORKERS, pids)
        count = "http_server_request_duration_seconds_count"
        eventually(lambda: running.value(count, http_route="/pid") == asked)
        eventually(lambda: running.value("http_server_active_requests") == 0)  # gauges lag behind
        with hanging(running):
            eventually(lambda: running.value("http_server_active_requests") == 1)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: running.value("http_server_active_requests") == 0)
        eventually(lambda: running.value(count, http_route="/pid") == asked)
        newer: set[int] = set()
        asked += ask_until(running, WORKERS, newer)
        eventually(lambda: running.value(count, http_route="/pid") == asked)
        eventually(lambda: newer <= set(receiver.of))
        assert len(set.union(*receiver.of.values())) == len(receiver.of)
        assert not [file for pid in pids for file in running.shared.glob(f"gauge_live*_{pid}.db")]


@both_ways
def test_spans_are_delivered_at_the_end(options: tuple[str, ...], tmp_path: Path) -> None:
    """What waits in a worker for its turn is exported when gunicorn stops."""
    with gunicorn(tmp_path, *options, OTEL_BSP_SCHEDULE_DELAY="600000") as (running, receiver):
        asked = ask_until(running, WORKERS, set())
        eventually(lambda: running.value("telemetry_span_queue_length") == asked)
        assert running.stop() == 0
        assert len(receiver.spans) == asked


@pytest.mark.full
@pytest.mark.parametrize("way", ["http/protobuf", "grpc"])
@pytest.mark.usefixtures("silent")
def test_gevent_workers_do_not_wait_for_a_silent_collector(way: str, tmp_path: Path) -> None:
    """Requests are answered while the exporter waits, over HTTP and, with the documented hook, over gRPC."""
    options = ["--worker-class", "gevent"]
    if way == "grpc":
        text = (ROOT / "docs/observability.md").read_text()
        (hook,) = re.findall(r"^```python\n([^`]*init_gevent.*?)^```", text, re.DOTALL | re.MULTILINE)
        config = tmp_path / "gevent_config.py"
        config.write_text(hook)
        options += ["-c", f"file:{config}"]
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
        "OTEL_EXPORTER_OTLP_PROTOCOL": way,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "600000",
    }
    with gunicorn(tmp_path, *options, **variables) as (running, _):
        asked = ask_until(running, WORKERS, set())
        for _ in range(40):
            assert running.ask("/pid")
        eventually(lambda: running.value("http_server_request_duration_seconds_count") == asked + 40)
        assert running.stop() == 0


def counts(running: Gunicorn, requests: int) -> bool:
    """Whether so many requests have been counted."""
    return running.value("http_server_request_duration_seconds_count") == requests


def test_what_an_earlier_run_left_is_forgotten(tmp_path: Path) -> None:
    """Counts begin at zero when gunicorn is started again on the same directory."""
    for _ in range(2):
        with gunicorn(tmp_path) as (running, _receiver):
            asked = ask_until(running, WORKERS, set())
            eventually(partial(counts, running, asked))


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("PROMETHEUS_MULTIPROC_DIR", "/nowhere", "PROMETHEUS_MULTIPROC_DIR '/nowhere'"),
        ("PROMETHEUS_MULTIPROC_DIR", "", "PROMETHEUS_MULTIPROC_DIR ''"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "many", "OTEL_EXPORTER_PROMETHEUS_PORT 'many'"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "taken", "Address already in use"),
    ],
)
def test_what_cannot_be_used_ends_gunicorn_with_a_line(
    variable: str, text: str, said: str, tmp_path: Path
) -> None:
    """A wrong setting is named in one line, and gunicorn does not start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        value = str(taken.getsockname()[1]) if text == "taken" else text
        with gunicorn(tmp_path, **{variable: value}) as (running, _):
            assert running.process.wait(30) == 1
    assert said in running.errors.read_text()
    assert "Traceback" not in running.errors.read_text()


@contextmanager
def hanging(running: Gunicorn) -> Iterator[None]:
    """Ask for a page that does not come, from another thread."""

    def ask() -> None:
        with suppress(OSError, urllib.error.URLError):
            running.ask("/hang")

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    thread.join()
