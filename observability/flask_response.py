"""The response of an HTTP request on its way to the server, which ends the request's record."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context

from observability.flask_spans import Exchange
from observability.request import SERVER_ERROR

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

    from observability.flask import ObservedApp

SMALL = 64 * 1024  # bytes that a socket takes without waiting for the client


class Response:
    """One response: its start, what carries its body, and its end."""

    def __init__(self, app: "ObservedApp", exchange: Exchange, start_response: "StartResponse") -> None:
        self._app = app
        self._start_response = start_response
        self.exchange = exchange
        self.record = exchange.record
        self.length = -1  # of the body in bytes, where it is known

    def start(self, status: str, headers: Any, *args: Any, **kwargs: Any) -> Callable[[bytes], object]:
        """WSGI's start_response."""
        try:
            self.record.code = int(status[:3])
            self.length = next((int(value) for key, value in headers if key.lower() == "content-length"), -1)
            headers = self._app.answered(self.exchange, headers)
        except Exception:
            self._app.failed()
        return self._start_response(status, headers, *args, **kwargs)

    def carry(self, chunks: Iterable[bytes]) -> Iterable[bytes]:
        """What the server is given as the body."""
        body = Body(self, chunks)
        wrapper = self.exchange.environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(chunks, wrapper):
            try:
                chunks.close = body.close  # type: ignore[attr-defined]
                return chunks  # as it is: the server may know a faster way than to iterate
            except AttributeError:
                pass
        return body

    def sent(self) -> None:
        """Note that the server has the whole body."""
        try:
            self.record.sent()
        except Exception:
            self._app.failed()

    def end(self, code: int, error: BaseException | None = None) -> None:
        """End the record; a later end is ignored."""
        if self.record.has_ended:
            return
        try:
            self._app.span(self.exchange)
            self.record.end(code or SERVER_ERROR, error)
        except Exception:
            self.record.fail("http")


class Body:
    """The body as the server takes it; only the server holds it.

    Each step of the application's code runs in the request's context, which is not current in between.
    """

    def __init__(self, response: Response, chunks: Iterable[bytes]) -> None:
        self._response = response
        self._chunks = chunks
        self._close: Callable[[], None] | None = getattr(chunks, "close", None)
        self._iterator: Iterator[bytes] | None = None
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        response = self._response
        token = otel_context.attach(response.exchange.context)
        try:
            if self._iterator is None:
                self._iterator = iter(self._chunks)
            chunk = next(self._iterator)
        except StopIteration:
            response.sent()
            raise
        except BaseException as error:
            response.end(response.record.code if self._sent else SERVER_ERROR, error)
            raise
        finally:
            otel_context.detach(token)
        self._sent += len(chunk)
        if self._sent == response.length and len(chunk) <= SMALL:
            response.sent()
        return chunk

    def close(self) -> None:
        """WSGI's close: the server has sent all, or gives up."""
        response = self._response
        token = otel_context.attach(response.exchange.context)
        try:
            if self._close is not None:
                self._close()
        except BaseException as error:
            response.end(response.record.code, error)
            raise
        finally:
            otel_context.detach(token)
        response.end(response.record.code)

    def __del__(self) -> None:
        self._response.end(self._response.record.code)  # a server that never closes a response drops it
