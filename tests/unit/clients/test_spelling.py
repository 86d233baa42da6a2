"""A guess is made where a word is near, and none where it is another word."""

import pytest

from clients.spelling import nearest

KEYS = ("hours", "income", "epsilon", "minimum_cohort", "Budgets", "rounds")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("epsilom", "epsilon"),
        ("EPSILON", "epsilon"),
        ("hour", "hours"),
        ("budget", "Budgets"),
        ("minimum-cohort", "minimum_cohort"),
        ("bogus", None),
        ("nope", None),
        ("", None),
    ],
)
def test_a_guess_is_near(word: str, meant: str | None) -> None:
    assert nearest(word, KEYS) == meant
