"""What a user's hook shows of values that come from outside: captured metadata, and fields of log lines."""

from collections.abc import Callable

from observability.tally import Tally

REDACTED = "[REDACTED]"

Redact = Callable[[str, str], str]


class Redaction:
    """Asks the hook, if there is one. A hook that raises, or gives no text, is counted, and shows nothing."""

    def __init__(self, redact: Redact | None, tally: Tally) -> None:
        self._redact = redact
        self._tally = tally

    def shown(self, name: str, value: str) -> str:
        """What to show for the value of that name."""
        if self._redact is None:
            return value
        try:
            shown = self._redact(name, value)
            if isinstance(shown, str):
                return shown
            raise TypeError(f"redact must return a str, got a {type(shown).__name__}")
        except Exception:
            self._tally.failure("redact")
            return REDACTED
