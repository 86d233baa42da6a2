"""Text of others on a terminal of ours."""


def printable(text: str) -> str:
    """The same text on one line, where every sign shows: it moves no cursor and hides nothing."""
    return "".join(sign if sign.isprintable() else "?" for sign in text.replace("\n", " "))
