"""What a check found: one line, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """state is "ok", "FAIL", or "--" for what was not checked; todo is set when it failed."""

    state: str
    name: str
    words: str
    todo: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<5}{self.name:<17}{self.words}"
        return f"{line}\n{'':<22}do: {self.todo}" if self.todo else line


def ok(name: str, words: str) -> Finding:
    """The part works."""
    return Finding("ok", name, words)


def failed(name: str, words: str, todo: str) -> Finding:
    """The part does not work, and this is what to do."""
    return Finding("FAIL", name, words, todo)


def skipped(name: str, words: str) -> Finding:
    """The part was not checked, and this is why."""
    return Finding("--", name, words)
