"""What `make why` reads in the stack, recorded there: of Jaeger 2.19 by both of its APIs, and of VictoriaLogs 1.52.

tests/stack/test_jaeger.py asks a real Jaeger.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, free_ports
from tools.jaeger import Jaeger
from tools.traces.lines import of_files, of_store, words

RECORDED = Path(__file__).parent / "recorded"
TRACE = "0cd70b9d222229f01293b161b0ba4d82"
LOGGED = "c1bd305bd42c5c2b08f746cb6bd5f944"
MISSING = (
    '{"error":{"httpCode":404,"message":"No traces found"}}',
    '{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":404,"msg":"trace not found"}]}',
)
VERSION_3 = {
    "/api/v3/services": '{"services":["marketplace","recommendations"]}',
    f"/api/v3/traces/{TRACE}": (RECORDED / "jaeger-2.19-v3.json").read_text(),
    "/api/v3/traces/1": MISSING[0],
}
OLDER = {
    "/api/services": '{"data":["marketplace","recommendations"],"total":2,"limit":0,"offset":0,"errors":null}',
    f"/api/traces/{TRACE}": (RECORDED / "jaeger-2.19-older.json").read_text(),
    "/api/traces/1": MISSING[1],
}


def _answering(answers: dict[str, str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A Jaeger answers with its page where it has nothing else.
            answer = answers.get(self.path, "<html></html>")
            self.send_response(404 if answer in MISSING else 200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Handler


@contextmanager
def served(answers: dict[str, str]) -> Iterator[str]:
    """The address of a server that has these answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _answering(answers)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=[VERSION_3, OLDER], ids=["version 3", "older"])
def jaeger(request: pytest.FixtureRequest) -> Iterator[Jaeger]:
    with served(request.param) as url:
        yield Jaeger(url)


def test_services_and_spans(jaeger: Jaeger) -> None:
    """Services, and the whole of a trace with who called whom, are read; of a trace that it lacks nothing is."""
    assert jaeger.services() == {"marketplace", "recommendations"}
    page, call, answer = jaeger.spans(TRACE)
    assert [span.service for span in (page, call, answer)] == [
        "marketplace",
        "marketplace",
        "recommendations",
    ]
    assert (call.parent_id, answer.parent_id, page.parent_id) == (page.span_id, call.span_id, "")
    assert (page.name, page.kind, page.status, page.failed) == ("GET /", "server", "404", False)
    assert (call.kind, call.status, call.failed, call.message) == (
        "client",
        "NOT_FOUND",
        True,
        "Category not found",
    )
    assert call.attributes["rpc.grpc.deadline_left_ms"] == "498"
    assert {span.trace_id for span in (page, call, answer)} == {TRACE}
    assert page.milliseconds == pytest.approx(1.935, abs=0.001)
    assert jaeger.spans("1") == []


def test_why_without_what_is_beside_jaeger(jaeger: Jaeger) -> None:
    """`make why` gives the reasons; a line each says that Prometheus and the log store do not answer."""
    names = ("TRACES_PORT", "PROMETHEUS_PORT", "LOGS_PORT")
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    ports["JAEGER_UI_PORT"] = jaeger.url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "tools.why", TRACE.upper()],
        cwd=ROOT,
        env=os.environ | ports,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("recommendations answered Recommendations/Recommend with NOT_FOUND")
    assert "had a deadline of 499 ms; 498 ms were left." in done.stdout
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        f"http://127.0.0.1:{ports[name]}" for name in names[1:]
    ]


def test_log_lines_are_the_same_from_the_store_and_from_files() -> None:
    """Their order, their fields and their words."""
    query = f"/select/logsql/query?query=trace_id%3A%3D%22{LOGGED}%22&limit=200"
    with served({query: (RECORDED / "victoria-logs-1.52.jsonl").read_text()}) as url:
        stored = of_store(url, LOGGED)
    kept = of_files(LOGGED, [RECORDED / "files.jsonl"])
    assert [words(line) for line in stored] == [words(line) for line in kept]
    assert len(kept) == 4
    assert " warn marketplace page without recommendations: INTERNAL " in "\n".join(map(words, kept))
