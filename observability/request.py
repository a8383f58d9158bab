"""The record of one HTTP request."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from observability.call import OTHER, Record

if TYPE_CHECKING:
    from observability.journal import Journal

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
SERVER_ERROR = 500
SETTLE_NS = 20_000_000


@dataclass(frozen=True)
class Endpoint:
    """An HTTP method and a route, such as "GET" and "/books/<int:id>"; `_OTHER` for what there is not."""

    method: str
    route: str
    side: str = "http"
    quiet: bool = False


class Request(Record):
    """One HTTP request, from its arrival until its response's body has been sent or given up.

    `method` is the HTTP method, `_OTHER` for one that HTTP does not have; `endpoint` is known once the route
    has been found; `code` is the status code of the response (0: there is none yet).
    """

    def __init__(self, journal: "Journal", method: str) -> None:
        self.method = method if method in METHODS else OTHER
        self.endpoint = Endpoint(self.method, OTHER)
        self.code = self._sent_ns = 0
        super().__init__(journal)

    @property
    def operation(self) -> Endpoint:
        """Its method and route."""
        return self.endpoint

    @property
    def is_error(self) -> bool:
        """Whether the server is at fault."""
        return self.code >= SERVER_ERROR or self.error is not None

    def sent(self) -> None:
        """Note that the server has the whole body; only its word that the response is closed is missing."""
        self._sent_ns = self.age_ns
        self.is_ending = not self.has_ended

    def settle(self) -> None:
        """End it as of when the body was sent: a test's client may never close a response that it keeps."""
        if self.age_ns - self._sent_ns > SETTLE_NS and self.close():
            self.duration_ns = self._sent_ns
            self._file()

    def end(self, code: int, error: BaseException | None = None) -> None:
        """Report once how the request ended; later reports are ignored."""
        if self.close():
            self.code = code
            self._file(error)

    def _file(self, error: BaseException | None = None) -> None:
        self.is_ending = False
        self.status = str(self.code)
        self.file(error, urgent=error is not None or self.is_error)
