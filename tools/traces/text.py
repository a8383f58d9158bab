"""Text of others, made safe to show."""

MAX_LENGTH = 200


def printable(text: str, longest: int = MAX_LENGTH, also: str = "") -> str:
    """The text, cut; what would steer a terminal or reorder a line is replaced, unless also has it."""
    return "".join(
        character if character.isprintable() or character in also else "\N{REPLACEMENT CHARACTER}"
        for character in text[:longest]
    )
