"""Words from elsewhere, as a terminal may be shown them."""

from typing import Final

SENTENCE_CHARACTERS: Final = 300


def plain(text: str, *, most: int = SENTENCE_CHARACTERS) -> str:
    """Return `text` without what could steer a terminal, and cut to `most` characters."""
    return "".join(each if each.isprintable() else "?" for each in text[:most])
