"""What recommendations answers, checked: however odd it is, a page can show it."""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protobufs.recommendations_pb2 import BookRecommendation
from services.feed import TEXT_MAX, Category

logger = logging.getLogger(__name__)


class Recommendation(NamedTuple):
    """A book that may please the reader."""

    id: int
    title: str


def sound(books: Iterable[BookRecommendation], count: int) -> list[Recommendation]:
    """The first count of those that can be shown, each once, their titles cut at the feed's longest."""
    titles = {book.id: book.title[:TEXT_MAX] for book in books if book.id > 0 and book.title.strip()}
    return [Recommendation(*book) for book in titles.items()][:count]


def known_categories(not_found: grpc.RpcError) -> Sequence[str]:
    """The categories that the service says it has, in google.rpc.ErrorInfo; else the shop's own."""
    info = error_details_pb2.ErrorInfo()
    try:
        status = rpc_status.from_call(not_found)  # type: ignore[arg-type]
        for detail in status.details if status else ():
            if detail.Unpack(info) and "known_categories" in info.metadata:
                return str(info.metadata["known_categories"]).split(",")
    except (DecodeError, ValueError) as error:  # it cannot be read, or names another status than gRPC
        logger.warning("NOT_FOUND with a google.rpc.Status that cannot be used: %s", error)
    return [category.name for category in Category]
