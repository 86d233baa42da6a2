"""A promise that did not hold."""


class Broken(AssertionError):  # noqa: N818 - a promise is broken
    """A promise that did not hold; the seed that shows it is a bug, or a planted fault."""
