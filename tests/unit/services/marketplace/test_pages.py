"""The pages of the shop, with the real recommendations behind them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from observability.testing import MemoryTelemetry
from services.feed import Category
from services.marketplace.app import create_app
from services.marketplace.config import Settings
from services.marketplace.front.connection import ARRIVED
from services.marketplace.recommendations import Recommendations
from services.marketplace.shop import Shop
from services.marketplace.store import PAGE, Store
from services.recommendations.config import Settings as ServerSettings
from services.settings import BOOKS
from tests.e2e.processes import free_ports
from tests.unit.services.recommending import Running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    running = Running(ServerSettings(recommendations_port=0, drain_s=0))
    yield running
    running.close()


def make(port: int, **settings: Any) -> tuple[Flask, Shop, MemoryTelemetry]:
    patient = {"recommendations_timeout_ms": 10_000, "database_timeout_ms": 10_000}
    chosen = Settings(
        database_url="sqlite://",
        recommendations_host="127.0.0.1",
        recommendations_port=port,
        **patient | settings,
    )
    telemetry = MemoryTelemetry("marketplace")
    shop = Shop(chosen, Store(chosen.database_url, chosen.books_file), Recommendations(chosen, telemetry))
    return create_app(shop, telemetry), shop, telemetry


@pytest.fixture
def running(server: Running) -> Iterator[tuple[Any, Shop, MemoryTelemetry]]:
    app, shop, telemetry = make(
        server.port, jaeger_ui_url="http://localhost:16686", logs_ui_url="http://localhost:9428"
    )
    yield app.test_client(), shop, telemetry
    shop.recommendations.close()
    shop.store.close()


@pytest.mark.parametrize(
    ("asked", "label"),
    [("", "Mystery"), ("?category=mystery", "Mystery"), ("?category=1", "Science fiction"), ("?category=0000000000001", "Science fiction"),
     ("?category=Self-Help", "Self-help"), ("?category=science%20fiction", "Science fiction")],
)  # fmt: skip
def test_home(running: Any, asked: str, label: str) -> None:
    """The title, the category's heading, and three books in the page's only list items."""
    page = running[0].get(f"/{asked}").text
    assert "<title>Online Books For You</title>" in page
    assert f"<h1>{label} books you may like</h1>" in page
    assert page.count("<li>") == len(re.findall(r"<li\b", page)) == 3


@pytest.mark.parametrize(
    "asked", ["42", "-1", "000000000000042", "cooking", "99999999999999", "1" * 5000, "<script>"]
)
def test_unknown_category(running: Any, asked: str) -> None:
    """The 404 page says NOT_FOUND, what was asked (as text), and which categories exist."""
    answer = running[0].get("/", query_string={"category": asked})
    assert answer.status_code == 404
    for word in ("NOT_FOUND", "Mystery (0)", "Science fiction (1)", "Self-help (2)"):
        assert word in answer.text
    assert "<script>" not in answer.text
    assert not re.search(r"<li\b", answer.text)


def test_a_number_goes_to_the_service_and_a_name_that_is_none_does_not(running: Any) -> None:
    """NOT_FOUND for 42 is recommendations' own answer."""
    client, _, telemetry = running
    client.get("/?category=cooking")
    assert telemetry.value("grpc_client_started_total") == 0
    client.get("/?category=42")
    assert telemetry.value("grpc_client_handled_total", grpc_code="NOT_FOUND") == 1


def titles(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)<', page)


def test_books(running: Any) -> None:
    """All nine by title, with author and price, and no list items."""
    page = running[0].get("/books").text
    found = titles(page)
    assert len(found) == 9
    assert found == sorted(found, key=str.casefold)
    assert "Agatha Christie" in page
    assert "$12.50" in page
    assert not re.search(r"<li\b", page)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"category": "mystery"}, 3),
        ({"category": "2"}, 3),
        ({"q": "orient"}, 1),
        ({"q": "ORI"}, 1),
        ({"q": "people", "category": "self_help"}, 2),
        ({"q": "people", "category": "mystery"}, 0),
        ({"q": '"*('}, 0),
        ({"q": "!!"}, 0),
        ({"q": "c0"}, 0),
    ],
)
def test_filter_and_search(running: Any, query: dict[str, str], expected: int) -> None:
    """Whole words and the beginning of the last are found in titles, within the category."""
    answer = running[0].get("/books", query_string=query)
    assert answer.status_code == 200
    assert len(titles(answer.text)) == expected
    assert ("No book fits" in answer.text) == (expected == 0)


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"after": "x"}, 400, "after must be a whole number from 0"),
        ({"before": "99999999999"}, 400, "before must be"),
        ({"q": "a" * 101}, 400, "q must be at most 100 characters, got"),
        ({"category": "7"}, 404, "NOT_FOUND"),
        ({"category": "cooking"}, 404, "NOT_FOUND"),
    ],
)
def test_bad_queries(running: Any, query: dict[str, str], status: int, said: str) -> None:
    """A wrong field is named, with its value and what it must be."""
    answer = running[0].get("/books", query_string=query)
    assert answer.status_code == status
    assert said in answer.text


def test_a_book(running: Any) -> None:
    """One book with author and price, and others of its category in list items, never itself."""
    page = running[0].get("/books/5").text
    for word in ("<h1>Ender&#39;s Game</h1>", "Orson Scott Card", "$9.49"):
        assert word in page
    assert page.count("<li>") == 2
    assert 'href="/books/5"' not in page


@pytest.mark.parametrize("path", ["/books/99", "/books/99999999999", "/books/x", "/nowhere"])
def test_not_found(running: Any, path: str) -> None:
    """What is not there is a 404 page of the shop."""
    answer = running[0].get(path)
    assert answer.status_code == 404
    assert "Go to the home page" in answer.text


def test_methods(running: Any) -> None:
    """HEAD works; another method is a 405 page that says what is allowed."""
    client = running[0]
    assert client.head("/").status_code == 200
    answer = client.post("/")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]


def test_each_answer_is_guarded(running: Any) -> None:
    """A strict policy, no sniffing, no caching of pages; static files are cached for a year."""
    client = running[0]
    page = client.get("/")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["Cache-Control"] == "no-store"
    style = re.search(r'href="(/static/shop.css[^"]*)"', page.text)
    assert style
    with client.get(style[1]) as answer:
        assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/", "/nowhere", "/static/shop.css", "/livez"])
def test_https_stays_https(running: Any, path: str) -> None:
    """Whatever is asked for by https is answered with HSTS, and nothing that is asked for by http."""
    for scheme, expected in (("https", "max-age=31536000"), ("http", None)):
        with running[0].get(path, base_url=f"{scheme}://localhost") as answer:
            assert answer.headers.get("Strict-Transport-Security") == expected


def test_the_foot_links_to_the_trace(running: Any) -> None:
    """With JAEGER_UI_URL set, the trace id is a link; with LOGS_UI_URL, another leads to its log lines."""
    answer = running[0].get("/")
    trace_id = answer.headers["traceresponse"].split("-")[1]
    assert f'<a href="http://localhost:16686/trace/{trace_id}">' in answer.text
    lines = re.search(r'<a href="([^"]+)">Log lines</a>', answer.text)
    assert lines
    assert lines[1].startswith(f"http://localhost:9428/select/vmui/#/?query=trace_id:{trace_id}&amp;")


def test_a_page_that_breaks_is_a_page(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is a 500 page with the trace id, and says nothing of the error."""
    client, _, _ = running
    monkeypatch.setattr(Store, "page", lambda *_: 1 / 0)
    answer = client.get("/books")
    assert answer.status_code == 500
    assert answer.headers["traceresponse"].split("-")[1] in answer.text
    assert "ZeroDivision" not in answer.text


def test_readiness(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready means that pages can be served: not while draining, nor without the database."""
    client, shop, _ = running
    assert client.get("/readyz").json | {"recommendations": ""} == {
        "status": "ready",
        "database": "ok",
        "recommendations": "",
        "circuit": "closed",
    }
    shop.draining.set()
    assert client.get("/readyz").status_code == 503
    shop.draining.clear()
    with shop.store.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE feed")
    assert client.get("/readyz").json["database"] == "failed"
    assert client.get("/livez").json == {"status": "ok"}


def test_without_recommendations() -> None:
    """With nobody at the port the page is 200, says so politely, and counts why."""
    app, shop, telemetry = make(free_ports(1)[0])
    page = app.test_client().get("/?category=1")
    assert page.status_code == 200
    assert 'role="status">Recommendations are not available now' in page.text
    assert telemetry.value("marketplace_recommendations_degraded_total", reason="UNAVAILABLE") == 1
    assert app.test_client().get("/?category=42").status_code == 200
    shop.recommendations.close()
    shop.store.close()


def test_recommendations_of_a_moment_ago(running: Any, server: Running) -> None:
    """When there are no new ones the page shows the last, and says so; a book is not recommended beside itself."""
    client, _, _ = running
    shown = re.findall(r"<li>.*</li>", client.get("/?category=1").text)
    server.switch.on("errors", "1")
    page = client.get("/?category=1").text
    book = client.get("/books/5").text
    server.switch.heal()
    assert re.findall(r"<li>.*</li>", page) == shown
    for text in (page, book):
        assert 'role="status">Recommendations are not available now: these are from a moment ago' in text
    assert book.count("<li>") == 2


def feed(path: Path, count: int) -> Path:
    rows = [f"{number},Book {number:04},A,MYSTERY,1\n" for number in range(1, count + 1)]
    path.write_text("id,title,author,category,price\n" + "".join(rows))
    return path


def test_pages_follow_each_other(tmp_path: Path) -> None:
    """Forwards and backwards every book is on exactly one page, in order."""
    store = Store(f"sqlite:///{tmp_path}/new/books.sqlite3", feed(tmp_path / "feed.csv", 2 * PAGE + 5))
    first = store.page()
    second = store.page(after=first.after)
    third = store.page(after=second.after)
    assert [len(page.books) for page in (first, second, third)] == [PAGE, PAGE, 5]
    assert (first.before, third.after) == (None, None)
    assert store.page(after=0) == first
    assert store.page(before=third.before) == second
    assert store.page(before=second.before).books == first.books
    assert store.page(Category.SELF_HELP).books == []
    store.close()


def test_the_store_follows_its_feed(tmp_path: Path) -> None:
    """The same feed is not loaded again; another one replaces it; a bad one leaves the old books."""
    url = f"sqlite:///{tmp_path}/books.sqlite3"
    for books_file, count in ((BOOKS, 9), (BOOKS, 9), (feed(tmp_path / "feed.csv", 2), 2)):
        store = Store(url, books_file)
        assert len(store.page().books) == count
        store.close()
    bad = tmp_path / "bad.csv"
    bad.write_text("id,title,author,category,price\n1,T,A,MYSTERY,x\n")
    with pytest.raises(Exception, match="column price"):
        Store(url, bad)
    store = Store(url, tmp_path / "feed.csv")
    assert len(store.page().books) == 2
    store.close()


def test_a_request_that_waited_for_long_makes_no_call(running: Any) -> None:
    """What is left of the page's budget is the deadline of its call; with none left, it goes on without."""
    client, _, telemetry = running
    page = client.get("/", environ_overrides={ARRIVED: time.perf_counter() - 10})
    assert "not available now" in page.text
    assert telemetry.value("marketplace_recommendations_degraded_total", reason="NO_TIME") == 1
    assert telemetry.value("grpc_client_started_total") == 0
