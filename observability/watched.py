"""A call whose messages are looked at: by the hooks of a user, and to measure them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from observability.call import Call

MAX_SIZES = 100

Hook = Callable[[Call, Any], object]


@dataclass(frozen=True)
class Watch:
    """What looks at each message: the hooks, and whether sizes are measured."""

    request_hook: Hook | None = None
    response_hook: Hook | None = None
    sizes: bool = False

    def __bool__(self) -> bool:
        return self.sizes or self.request_hook is not None or self.response_hook is not None


class WatchedCall(Call):
    """A call that shows its messages to a watch. What fails is counted, and changes nothing for the call."""

    watches = True

    def __init__(self, watch: Watch, *known: Any) -> None:
        self._watch = watch
        self.sizes = ([], [])
        super().__init__(*known)

    def message_received(self, message: Any) -> None:
        """Count a message that was received, and look at it."""
        super().message_received(message)
        self._look(message, self.sizes[0], is_request=self.method.side == "server")

    def message_sent(self, message: Any) -> None:
        """Count a message that was sent, and look at it."""
        super().message_sent(message)
        self._look(message, self.sizes[1], is_request=self.method.side == "client")

    def _look(self, message: Any, sizes: Any, *, is_request: bool) -> None:
        if message is None:
            return
        try:
            if self._watch.sizes and len(sizes) < MAX_SIZES and (size := _size(message)) is not None:
                sizes.append(size)
            hook = self._watch.request_hook if is_request else self._watch.response_hook
            if hook is not None and not self.method.quiet:
                hook(self, message)
        except Exception:
            self._journal.tally.failure("hook")


def _size(message: Any) -> int | None:
    """The size of a protobuf message, or of bytes, as it is on the wire without compression."""
    if isinstance(message, bytes):
        return len(message)
    measure = getattr(message, "ByteSize", None)
    return None if measure is None else int(measure())
