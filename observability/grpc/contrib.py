"""Beside opentelemetry-instrumentation-grpc: a call that its interceptors see too gets one span, not two."""

import contextvars
import functools
import logging
import sys
from contextlib import AbstractContextManager, nullcontext

from opentelemetry.context import attach, detach, get_current, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span, SpanKind, get_current_span

SCOPE = "opentelemetry.instrumentation.grpc"
MODULES = tuple(f"{SCOPE}.{name}" for name in ("_aio_client", "_aio_server", "_client", "_server"))

logger = logging.getLogger(__name__)


class Contrib:
    """Knows whether contrib's interceptors are about, and warns once."""

    def __init__(self) -> None:
        self._has_warned = False
        self._is_loaded = False
        self._modules = 0

    def is_loaded(self) -> bool:
        """Whether there may be interceptors of contrib; looked for again when modules were loaded since."""
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            self._is_loaded = any(module in sys.modules for module in MODULES)
        return self._is_loaded

    def kept_out(self) -> AbstractContextManager[None]:
        """A context in which contrib's interceptors, inside of ours, let calls pass."""
        if not self.is_loaded():
            return nullcontext()
        self._warn()
        return _Suppressed()

    def span(self, kind: SpanKind) -> Span | None:
        """The span that contrib's interceptor, outside of ours, has made for this very call."""
        if not self.is_loaded():
            return None
        span = get_current_span()
        scope = getattr(span, "instrumentation_scope", None)
        if scope is None or scope.name != SCOPE or getattr(span, "kind", None) is not kind:
            return None
        self._warn()
        return span

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s is loaded, too: calls that both see get one span; take one of the two out", SCOPE
            )


class _Suppressed(AbstractContextManager[None]):
    """What suppress_instrumentation() is, without its two generators: CPython 3.11 has crashed in them."""

    def __enter__(self) -> None:
        context = get_current()
        for key, value in _marks().items():
            context = set_value(key, value, context)
        self._token = attach(context)

    def __exit__(self, *_: object) -> None:
        detach(self._token)


@functools.cache
def _marks() -> dict[str, object]:
    """What suppress_instrumentation() puts into a context."""

    def marked() -> dict[str, object]:
        with suppress_instrumentation():
            return dict(get_current())

    return contextvars.Context().run(marked)
