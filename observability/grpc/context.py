"""The servicer contexts that handlers see: gRPC's own, which also remember what the handler did with them."""

from typing import Any

import grpc

from observability.grpc.outcome import NAMES
from observability.handing_on import handing_on


class WatchedContext(handing_on(grpc.ServicerContext)):  # type: ignore[misc]
    """Hands everything on to gRPC's context, and notes an abort and a cancel.

    Nothing else distinguishes an abort, which raises a bare Exception, from an exception of the handler.
    """

    OWN = frozenset({"aborted", "cancelled_by_handler", "inner"})

    aborted = False
    cancelled_by_handler = False

    def __init__(self, context: Any) -> None:
        self.__dict__["inner"] = context

    def abort(self, *arguments: Any, **options: Any) -> Any:
        """End the RPC with a status; always raises."""
        self.aborted = True
        return self.inner.abort(*arguments, **options)

    def abort_with_status(self, status: Any) -> Any:
        """End the RPC with a status; always raises."""
        self.aborted = True
        return self.inner.abort_with_status(status)

    def cancel(self) -> Any:
        """Cancel the RPC."""
        self.cancelled_by_handler = True
        return self.inner.cancel()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.inner, name, value)


class PlainContext:
    """The context of a plain function on an asyncio server, which has fewer methods than the other two.

    It also remembers the status that the handler sets: gRPC's own cannot be asked.
    """

    def __init__(self, context: Any) -> None:
        self.inner = context
        self.aborted = False
        self.cancelled_by_handler = False
        self.is_gone = False
        self._code: Any = None
        self._details: str | None = None
        self._trailers: Any = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def set_code(self, code: Any) -> None:
        """Set the status; a number goes out as it is."""
        self._code = code
        self.inner.set_code(code)

    def set_details(self, details: str) -> None:
        """Set the status's details."""
        self._details = details
        self.inner.set_details(details)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set the trailing metadata."""
        self._trailers = trailing_metadata
        self.inner.set_trailing_metadata(trailing_metadata)

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the RPC with a status; raises grpc.aio.AbortError."""
        self.aborted = True
        self._code = code
        self._details = details
        self._trailers = trailing_metadata or self._trailers
        self.inner.abort(code, details, trailing_metadata)

    def code(self) -> grpc.StatusCode | None:
        """The status that was set, if one was."""
        return grpc.StatusCode[NAMES[self._code]] if self._code in NAMES else self._code

    def details(self) -> str | None:
        """The details that were set, if some were."""
        return self._details

    def trailing_metadata(self) -> Any:
        """The trailing metadata that was set."""
        return self._trailers

    def is_active(self) -> bool:
        """Whether somebody still waits for the response."""
        return not self.is_gone and bool(self.inner.time_remaining() != 0)
