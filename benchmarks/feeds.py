"""Synthetic feeds of any size, the same ones for every benchmark and test."""

import csv
import random
from pathlib import Path

_WORDS = (
    "night", "murder", "river", "garden", "house", "stranger", "silence", "winter", "star",
    "machine", "colony", "signal", "empire", "orbit", "habit", "courage", "focus", "purpose",
    "calm", "letter", "witness", "island", "storm", "mirror", "shadow", "promise", "king",
    "daughter", "road", "ocean", "library", "clock", "harbour", "forest", "secret", "fortune",
    "season",
)  # fmt: skip
_AUTHORS = ("A. Rowe", "Björn Åkesson", "Chiamaka Obi", "Dorothy L. Hale", "E. Sato", "María Núñez")
_CATEGORIES = ("MYSTERY", "SCIENCE_FICTION", "SELF_HELP")


def write_feed(path: Path, books: int, shares: tuple[int, int, int] = (90, 9, 1)) -> Path:
    """Write a feed of so many books; shares are the categories' weights, in the contract's order."""
    chance = random.Random(books)
    categories = chance.choices(_CATEGORIES, weights=shares, k=books)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "title", "author", "category", "price"))
        for number, category in enumerate(categories, 1):
            writer.writerow(
                (number, _title(chance, number), chance.choice(_AUTHORS), category, _price(chance))
            )
    return path


def _title(chance: random.Random, number: int) -> str:
    first, second, third = chance.choices(_WORDS, k=3)
    return f"The {first.title()} of the {second.title()} {third.title()} {number}"


def _price(chance: random.Random) -> str:
    return f"{chance.randrange(499, 4999) / 100:.2f}"
