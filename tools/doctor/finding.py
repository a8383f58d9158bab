"""What a check found: one line, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """state is "ok", "FAIL", "then" for what follows from a failure, or "--" for what was not checked.

    todo is set when it failed; about is the service that it is of, if it is of one.
    """

    state: str
    name: str
    words: str
    todo: str = ""
    about: str = ""

    def after(self, cause: "Finding") -> "Finding":
        """The same, as what follows from another failure."""
        return Finding("then", self.name, f"{self.words}: follows from {cause.name}, above", about=self.about)

    def __str__(self) -> str:
        line = f"{self.state:<5}{self.name:<17}{self.words}"
        return f"{line}\n{'':<22}do: {self.todo}" if self.todo else line


def ok(name: str, words: str) -> Finding:
    """The part works."""
    return Finding("ok", name, words)


def failed(name: str, words: str, todo: str, about: str = "") -> Finding:
    """The part does not work, and this is what to do."""
    return Finding("FAIL", name, words, todo, about)


def skipped(name: str, words: str) -> Finding:
    """The part was not checked, and this is why."""
    return Finding("--", name, words)
