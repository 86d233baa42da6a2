"""The suite that a founder signs is in the fold, and cannot be changed or left out afterwards."""

import pytest
from support.membership import Acts

from privacy.errors import RefusedError
from privacy.ledger.entry import KINDS


@pytest.mark.parametrize("suite", ["gm", "hybrid"])
def test_the_founders_suite_is_in_the_fold(suite: str) -> None:
    acts = Acts()
    acts.act("federation.begun", acts.begun(suite=suite))
    assert acts.membership.suite == suite


def test_without_one_it_is_intl() -> None:
    assert Acts().begin().membership.suite == "intl"


@pytest.mark.parametrize("suite", ["intl", "none", 1, ""])
def test_no_other_word_is_taken(suite: object) -> None:
    acts = Acts()
    assert KINDS["federation.begun"].wrong(acts.begun(suite=suite)) == ["suite"]


def test_it_cannot_be_taken_away_from_what_was_signed() -> None:
    acts = Acts()
    body = acts.begun(suite="hybrid")
    for weaker in ({k: v for k, v in body.items() if k != "suite"}, {**body, "suite": "gm"}):
        with pytest.raises(RefusedError, match="signature"):
            acts.act("federation.begun", weaker)
