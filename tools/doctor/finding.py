"""What a check found: one line, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """state is "ok", "FAIL", or "--" for what was not looked at; todo is there when it failed."""

    state: str
    name: str
    words: str
    todo: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<5}{self.name:<17}{self.words}"
        return f"{line}\n{'':<22}do: {self.todo}" if self.todo else line


def ok(name: str, words: str) -> Finding:
    """It is well."""
    return Finding("ok", name, words)


def failed(name: str, words: str, todo: str) -> Finding:
    """It is not well, and this is what to do."""
    return Finding("FAIL", name, words, todo)


def skipped(name: str, words: str) -> Finding:
    """It was not looked at, and this is why."""
    return Finding("--", name, words)
