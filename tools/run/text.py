"""Text of others, made safe for a terminal."""

MAX_LENGTH = 200


def printable(text: str) -> str:
    """The text without characters that would steer a terminal or reorder a line, and not too long."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text[:MAX_LENGTH]
    )
