"""What a search looks for: words, which are the same whichever database keeps them."""

import re
import unicodedata


def words(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, in lower case, without accents."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(character for character in decomposed if not unicodedata.combining(character))
    return re.findall(r"[^\W_]+", text.casefold())
