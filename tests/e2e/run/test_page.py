"""The page of `make run`, asked by plain HTTP."""

import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from observability.testing import eventually
from tests.e2e.processes import get
from tests.e2e.run.running import RunningPair
from tests.e2e.run.spans import CLIENT, ROOT, SERVER
from tools.run.page import Page
from tools.traces.kept import MAX_SPANS, Kept
from tools.traces.methods import Call, Calls, calls
from tools.traces.trace import Event

Start = Callable[..., RunningPair]
SCRIPT = "<script>alert(1)</script>"


class Site:
    """A page of these traces, whose services have the metrics of a file."""

    def __init__(self, directory: Path, ports: dict[str, str]) -> None:
        self.kept = Kept()
        self.log = directory / "shop.log"
        port = int(ports["TRACES_PORT"])
        self.url = f"http://127.0.0.1:{port}"
        self._page = Page(self.kept, "127.0.0.1", port, {}, [self.log], "http://127.0.0.1:1")

    def get(self, path: str) -> tuple[int, str]:
        status, body, headers = get(self.url + path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        return status, body

    def listed(self, query: str) -> set[str]:
        """The traces that the list shows."""
        return set(re.findall(r'href="/trace/(\w+)"', self.get(f"/{query}")[1]))

    def close(self) -> None:
        self._page.close()


@pytest.fixture
def site(tmp_path: Path, ports: dict[str, str]) -> Iterator[Site]:
    with closing(Site(tmp_path, ports)) as made:
        yield made


def test_the_foot_of_a_page_leads_to_its_trace(start: Start, ports: dict[str, str]) -> None:
    """A click in the shop is a trace of both services with attributes and log lines, counted among the methods."""
    pair = start("--quiet").wait_until_ready()
    page = f"http://127.0.0.1:{ports['TRACES_PORT']}"
    assert f"traces in a browser        {page}\n" in pair.out
    _, body, _ = get(f"http://127.0.0.1:{ports['MARKETPLACE_PORT']}/?category=42")
    (link,) = re.findall(rf'href="({page}/trace/\w{{32}})"', body)
    shown = eventually(lambda: body if (body := get(link)[1]).count("<summary>") == 3 else "", 20)
    assert re.findall(r'class="service s\d">(\w+)<', shown) == [
        "marketplace",
        "marketplace",
        "recommendations",
    ]
    assert "url.query" in shown
    lines = eventually(lambda: re.findall(r'<a href="#span-\w+">([\w.]+)</a>', get(link)[1]), 20)
    assert "http.server.request" in lines
    eventually(lambda: "grpc.server.call" in get(link)[1], 20)
    methods = get(f"{page}/methods")[1]
    for row in (
        r"Recommendations/Recommend</bdi></th><td>recommendations</td>.*NOT_FOUND 1</td>",
        r"GET /</bdi></th><td>marketplace</td>.*404 1</td>",
        r"marketplace</th><td>.*recommendations</td><td><bdi>Recommendations/Recommend</bdi>",
    ):
        assert re.search(row, methods), row


def test_its_port_in_use_is_reported_and_the_pair_goes_on(start: Start, ports: dict[str, str]) -> None:
    """The page is an extra: without its port the pair starts all the same, and the shop's foot has no link."""
    with socket.create_server(("127.0.0.1", int(ports["TRACES_PORT"]))):
        pair = start().wait_until_ready()
        body = get(f"http://127.0.0.1:{ports['MARKETPLACE_PORT']}/")[1]
    assert "not served: TRACES_PORT: cannot listen" in pair.out
    assert "Trace <code>" in body


def test_jaeger_that_the_user_names_keeps_the_links(start: Start, ports: dict[str, str]) -> None:
    """JAEGER_UI_URL wins over the page."""
    start("--quiet", JAEGER_UI_URL="http://127.0.0.1:9").wait_until_ready()
    assert 'href="http://127.0.0.1:9/trace/' in get(f"http://127.0.0.1:{ports['MARKETPLACE_PORT']}/")[1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"aa", "bb"}),
        ("?service=recommendations", {"aa"}),
        ("?service=nobody", set()),
        ("?status=404", {"bb"}),
        ("?status=errors", {"bb"}),
        ("?slow=11", {"bb"}),
        ("?slow=21", set()),
        ("?service=marketplace&status=200&slow=10", {"aa"}),
    ],
)
def test_the_list_is_filtered(site: Site, query: str, expected: set[str]) -> None:
    """By service, by status or any error, by duration, and by all of them."""
    slow = replace(ROOT, trace_id="bb", span_id="9", status="404", failed=True, end_ns=20_000_000)
    site.kept.add([ROOT, CLIENT, SERVER, slow])
    assert site.listed(query) == expected


def test_what_a_service_sends_is_text(site: Site) -> None:
    """Names, attributes, events and log lines cannot bring markup into the page."""
    event = Event(SCRIPT, 1, {SCRIPT: SCRIPT})
    site.kept.add(
        [replace(ROOT, name=SCRIPT, status=SCRIPT, message=SCRIPT, attributes={"a": SCRIPT}, events=[event])]
    )
    site.log.write_text(f'{{"trace_id": "aa", "event": "{SCRIPT}", "x": "{SCRIPT}"}}\nno JSON: aa\n["aa"]\n')
    for path in ("/", "/trace/aa", "/methods", f"/?service={SCRIPT}&slow={SCRIPT}"):
        status, body = site.get(path)
        assert status == 200
        assert "<script" not in body


def test_without_traces_it_says_what_to_do(site: Site) -> None:
    """An empty page is not a riddle, and an unknown trace is a page, too."""
    assert "Open the shop" in site.get("/")[1]
    assert "No calls in the last minutes" in site.get("/methods")[1]
    status, body = site.get("/trace/aa")
    assert status == 404
    assert "This trace is not here" in body


def test_names_of_elsewhere_are_refused(site: Site) -> None:
    """A page of the internet whose name leads to this port reads nothing."""
    request = urllib.request.Request(site.url, headers={"Host": "shop.example"})
    with pytest.raises(urllib.error.HTTPError, match="400") as raised:
        urllib.request.urlopen(request, timeout=10)
    raised.value.close()


def test_the_oldest_traces_go() -> None:
    """However many traces come and however large they are, what is kept is bounded."""
    kept = Kept(max_bytes=100_000)
    big = {"stack": "x" * 3000}
    for number in range(100):
        kept.add([replace(ROOT, trace_id=str(number), attributes=big)])
    left = [trace.root.trace_id for trace in kept.all()]
    assert "99" in left
    assert kept.get("0") is None
    assert 10 < len(left) <= 25
    assert {trace.root.trace_id for trace in kept.take_all()} <= set(left)
    kept.add(replace(ROOT, span_id=str(number)) for number in range(MAX_SPANS + 5))
    trace = kept.get("aa")
    assert trace is None or len(trace.spans) <= MAX_SPANS


def test_who_calls_whom() -> None:
    """A call is counted as the called recorded it, or as the caller did where there is no other span."""
    kept = Kept()
    select = replace(
        CLIENT,
        span_id="8",
        kind="client",
        name="SELECT",
        attributes={"db.system.name": "sqlite"},
        failed=True,
    )
    kept.add(
        [replace(ROOT, kind="server"), replace(CLIENT, kind="client"), replace(SERVER, kind="server"), select]
    )
    assert calls(kept.all()) == {
        Call("marketplace", "recommendations", "Recommend"): Calls(1, 0, 2.0),
        Call("marketplace", "sqlite", "SELECT"): Calls(1, 1, 6.0),
        Call("outside", "marketplace", "GET /"): Calls(1, 0, 10.0),
    }
