"""Words from elsewhere within a sentence of ours."""


def in_one_line(text: str) -> str:
    """Return it without line ends and what a terminal would take for orders: blanks for them."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
