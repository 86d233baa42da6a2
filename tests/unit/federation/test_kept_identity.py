"""An identity that is made when it is first asked for: by one of all that ask at once."""

import os
from pathlib import Path

import pytest

from federation.kept_identity import kept_identity
from privacy.errors import InputError
from privacy.identity import Identity
from privacy.randomness import system_bytes


def test_of_two_that_make_an_identity_at_once_both_have_the_one_that_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "identity.pem", os.link
    theirs: list[bytes] = []

    def second(source: Path, target: Path) -> None:
        # another process is done between the look and the link
        monkeypatch.setattr(os, "link", real)
        theirs.append(kept_identity(target, system_bytes).public)
        real(source, target)

    monkeypatch.setattr(os, "link", second)
    assert [kept_identity(path, system_bytes).public] == theirs
    assert Identity.load(path).public == theirs[0]


def test_an_identity_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write the identity"):
        kept_identity(tmp_path / "none" / "identity.pem", system_bytes)
