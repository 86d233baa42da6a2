"""How many there are, in words that suit one and several."""


def counted(count: int, one: str) -> str:
    """A number and its noun: 1 entry, 2 entries.

    Args:
        count: How many.
        one: The noun where there is one.
    """
    many = f"{one[:-1]}ies" if one.endswith("ry") else f"{one}s"
    return f"{count} {one if count == 1 else many}"
