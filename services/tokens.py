"""A file of bearer tokens, one a line: two, while one takes the place of the other."""

from dataclasses import dataclass
from pathlib import Path

from observability.bearer import TOKEN
from services.tls import Version

SHORTEST = 16


@dataclass(frozen=True)
class TokenFile:
    """The file, and the variable that names it. No message shows a token."""

    name: str
    file: Path

    @property
    def names(self) -> tuple[str, ...]:
        """The variable."""
        return (self.name,)

    def check(self) -> None:
        """Raise ValueError, which names file and reason, unless there is a token, and each is one."""
        self.read()

    def read(self) -> tuple[str, ...]:
        """The tokens. Raises ValueError."""
        try:
            lines = self.file.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise self._wrong(getattr(error, "strerror", None) or "it is not ASCII") from None
        tokens = [line.strip() for line in lines if line.strip()]
        if not tokens:
            raise self._wrong("it is empty")
        if any(len(token) < SHORTEST or not TOKEN.fullmatch(token) for token in tokens):
            raise self._wrong("a line is something else")
        return tuple(tokens)

    def version(self) -> Version:
        """A value that changes when the file changes."""
        stat = self.file.stat()
        return ((stat.st_ino, stat.st_mtime_ns, stat.st_size),)

    def _wrong(self, reason: str) -> ValueError:
        return ValueError(
            f"{self.name} must be a file of tokens, one a line, each at least {SHORTEST} letters, digits or "
            f"-._~+/ and then =, got {str(self.file)!r}: {reason}"
        )
