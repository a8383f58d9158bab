"""Pages, whatever recommendations answers: none breaks."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from protobufs.recommendations_pb2 import BookRecommendation, RecommendationResponse
from services.feed import TEXT_MAX
from tests.unit.services.marketplace.test_pages import make

STATUS = "grpc-status-details-bin"
Answer = Callable[[grpc.ServicerContext], bytes]


class Server:
    """A gRPC server that answers what the test says, byte for byte."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: b""
        self._server = grpc.server(ThreadPoolExecutor(2))
        behave: Any = grpc.unary_unary_rpc_method_handler(lambda _, context: self.answer(context))
        handlers = grpc.method_handlers_generic_handler("Recommendations", {"Recommend": behave})
        self._server.add_generic_rpc_handlers((handlers,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def shop(server: Server) -> Iterator[Any]:
    app, shop, _ = make(server.port)
    yield app.test_client()
    shop.recommendations.close()
    shop.store.close()


def books(*books: tuple[int, str]) -> Answer:
    message = RecommendationResponse(recommendations=[BookRecommendation(id=i, title=t) for i, t in books])
    return lambda _: message.SerializeToString()


def titles(page: str) -> list[str]:
    """The names of the page's books, of which each is a list item; there are no others."""
    names = re.findall(r'<li><a class="card" href="/books/\d+">.*<span class="name">([^<]*)</span>', page)
    assert len(names) == len(re.findall(r"<li\b", page))
    return names


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (books(*((i, f"Book {i}") for i in range(1, 1000))), ["Book 1", "Book 2", "Book 3"]),
        (books((7, "A"), (7, "A"), (8, "B")), ["A", "B"]),
        (books((-1, "A"), (0, "B"), (2**31 - 1, "C")), ["C"]),
        (books((1, ""), (2, " \n"), (3, "C")), ["C"]),
        (books((1, "x" * 10_000)), ["x" * TEXT_MAX]),
        (books((1, "<b>\x00\u202e&")), ["&lt;b&gt;\x00\u202e&amp;"]),
    ],
    ids=["too many", "twice", "no ids", "no titles", "long", "markup"],
)
def test_odd_books(server: Server, shop: Any, answer: Answer, shown: list[str]) -> None:
    """What cannot be shown is left out, what is too much is cut, and all of it is text."""
    server.answer = answer
    page = shop.get("/")
    assert (page.status_code, titles(page.text)) == (200, shown)
    assert shop.get("/books/1").status_code == 200


@pytest.mark.parametrize("path", ["/", "/books/1"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (books(), "nothing to recommend here yet"),
        (books((-5, "A"), (6, "")), "nothing to recommend here yet"),
        (lambda _: b"\xff" * 100, "not available now"),
        (books((1, "x" * 5_000_000)), "not available now"),
        (books(*((i, "x" * 200) for i in range(1, 2000))), "not available now"),
    ],
    ids=["none", "none that can be shown", "no message", "one huge title", "huge"],
)
def test_no_books(server: Server, shop: Any, answer: Answer, said: str, path: str) -> None:
    """The page says so, and is there."""
    server.answer = answer
    page = shop.get(path)
    assert (page.status_code, titles(page.text)) == (200, [])
    assert said in page.text


def not_found(details: bytes | None, code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND) -> Answer:
    def answer(context: grpc.ServicerContext) -> bytes:
        if details is not None:
            context.set_trailing_metadata(((STATUS, details),))
        context.abort(code, "Category not found")
        raise AssertionError

    return answer


def rich(
    code: int = code_pb2.NOT_FOUND, message: str = "Category not found", known: str = "MYSTERY"
) -> bytes:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="R", metadata={"known_categories": known}))
    status: bytes = status_pb2.Status(code=code, message=message, details=[info]).SerializeToString()
    return status


@pytest.mark.parametrize(
    "details",
    [
        None,
        b"",
        b"\xff\xff\xff",
        rich()[:-3],
        rich(code_pb2.INTERNAL),
        rich(message="something else"),
        rich(known=""),
        rich(known="COOKING,\u2603,"),
        status_pb2.Status(code=5, message="Category not found", details=[any_pb2.Any(value=b"\xff\xff")]).SerializeToString(),
        status_pb2.Status(code=5, message="Category not found", details=[any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")]).SerializeToString(),
    ],
    ids=["none", "empty", "garbage", "cut", "code", "message", "no names", "odd names", "no type", "no info"],
)  # fmt: skip
def test_an_odd_not_found_is_the_404_page(server: Server, shop: Any, details: bytes | None) -> None:
    """It says NOT_FOUND and which categories there are, as far as the shop knows."""
    server.answer = not_found(details)
    page = shop.get("/?category=42")
    assert page.status_code == 404
    for word in ("NOT_FOUND", "Mystery (0)", "Science fiction (1)", "Self-help (2)"):
        assert word in page.text


def test_what_not_found_says_is_believed(server: Server, shop: Any) -> None:
    """A whole answer names the categories itself."""
    server.answer = not_found(rich(known="SELF_HELP"))
    page = shop.get("/?category=42").text
    assert "Self-help (2)" in page
    assert "Mystery (0)" not in page
