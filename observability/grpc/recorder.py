"""Starts the records of one side's calls."""

import functools
import logging
from collections.abc import Callable

from opentelemetry.context import Context

from observability.call import OTHER, Call, Metadata, Method
from observability.grpc.contrib import Contrib
from observability.journal import Journal
from observability.signals.tracing import KINDS, Tracing
from observability.watched import Watch, WatchedCall

MAX_METHODS = 1000

logger = logging.getLogger(__name__)


class Recorder:
    """Starts records; what is the same for the calls of a method is worked out once.

    quiet says of a path whether its calls must be counted only; watch looks at their messages; address and
    port are the target's.
    """

    def __init__(
        self,
        side: str,
        journal: Journal,
        tracing: Tracing,
        contrib: Contrib,
        quiet: Callable[[str], bool],
        watch: Watch,
        address: str = "",
        port: int | None = None,
    ) -> None:
        self.journal = journal
        self.tally = journal.tally
        self.contrib = contrib
        self._side = side
        self._start = tracing.serve if side == "server" else tracing.ask
        self._quiet = quiet
        self._call = functools.partial(WatchedCall, watch) if watch else Call
        self._address = address
        self._port = port
        self._methods: dict[tuple[str, str], Method] = {}
        self._has_warned = False

    def method(self, path: str, kind: str) -> Method:
        """The method of that path, as it is on the wire: `/package.Service/Method`.

        Beyond MAX_METHODS names, which no real service has, it is `_OTHER`.
        """
        found = self._methods.get((path, kind))
        if found is None:
            if len(self._methods) >= MAX_METHODS and path != OTHER:
                return self.method(OTHER, kind)
            service, _, name = path.lstrip("/").rpartition("/")
            made = Method(
                self._side,
                kind,
                service or OTHER,
                name or OTHER,
                self._address,
                self._port,
                self._quiet(path),
            )
            found = self._methods.setdefault((path, kind), made)
        return found

    def is_double(self, journal: Journal) -> bool:
        """Whether that journal, which has the call, is ours: the interceptors are there twice."""
        if journal is not self.journal:
            return False
        if not self._has_warned:
            self._has_warned = True
            logger.warning("the interceptors of one Telemetry must be passed once, got them twice")
        return True

    def failed(self, call: Call | None) -> None:
        """Count a failure of ours; the call's record, if there is one, still ends."""
        if call is None:
            self.tally.failure(self._side)
        else:
            call.fail(self._side)

    def begin(
        self,
        method: Method,
        metadata: Metadata = (),
        peer: str = "",
        deadline_s: float | None = None,
        queued_s: float | None = None,
        asked: str = "",
    ) -> tuple[Call, Context | None]:
        """Start a call's record, with what is known of it, and the context that its code must run in.

        A failure of tracing is counted, and the record goes on without a span.
        """
        call = self._call(self.journal, method, metadata, peer, deadline_s, queued_s, asked)
        if method.quiet:
            return call, None
        try:
            if self.contrib.is_loaded():
                call.span = self.contrib.span(KINDS[self._side])
                if call.span is not None:
                    call.owns_span = False
                    return call, None
            return call, self._start(call)
        except Exception:
            self.tally.failure("tracing")
            return call, None
