"""Passphrases come from where no other process reads them, and a wrong one is told as such."""

import os
from pathlib import Path

import pytest

from clients import vault_folder
from clients.passphrase import PassphrasePlace, parse_place, read_passphrase
from clients.vault import MasterKey, passphrase_key
from clients.vault_folder import PassphraseSource, make_vault, open_keys, write_vault
from privacy.errors import InputError
from privacy.randomness import system_bytes

SAID = "a long passphrase"


def fresh() -> PassphraseSource:
    return PassphraseSource(salt=system_bytes(32).hex(), place=PassphrasePlace(of="terminal"))


def test_a_passphrase_is_read_from_each_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text(SAID + "\n")
    path.chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    descriptor = os.open(path, os.O_RDONLY)
    for text in (f"file:{path}", "credential:secret", f"descriptor:{descriptor}"):
        assert read_passphrase(parse_place(text)) == SAID
    assert read_passphrase(parse_place("terminal"), ask=lambda _: SAID) == SAID
    path.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        read_passphrase(parse_place(f"file:{path}"))
    with pytest.raises(InputError, match="cannot be read"):
        read_passphrase(parse_place(f"descriptor:{descriptor}"))
    own = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    with pytest.raises(InputError, match="it is not open"):
        read_passphrase(parse_place(f"descriptor:{own}"))
    os.close(own)  # it was left as it was
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(InputError, match="LoadCredential"):
        read_passphrase(parse_place("credential:secret"))


@pytest.mark.parametrize(
    "text", ["", "secret", "env:X", "descriptor:x", "file:", "credential:../x", "terminal:x"]
)
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="no place of a passphrase"):
        parse_place(text)


def test_without_a_terminal_one_sentence_says_what_to_do() -> None:
    with pytest.raises(InputError, match="there is none"):
        read_passphrase(PassphrasePlace(of="terminal"))


def test_each_folder_has_its_own_salt_and_refuses_a_wrong_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        source = fresh()
        known, _ = make_vault(source, folder, system_bytes, ask=lambda _: SAID)
        write_vault(folder, known)
        monkeypatch.setattr(vault_folder, "_OPEN", {})  # as another process
        with pytest.raises(InputError, match="the passphrase is wrong"):
            open_keys(folder, system_bytes, ask=lambda _: "another long one")
        found = open_keys(folder, system_bytes, ask=lambda _: SAID)
        assert isinstance(found, MasterKey)
        keys.append(found.key)
        # asked once a process
        assert open_keys(folder, system_bytes, ask=lambda _: "not asked") is found
    assert keys[0] != keys[1]
    assert passphrase_key(SAID, b"1") != passphrase_key(SAID, b"2")
    said = iter(["a long passphrase", "a long passphrasf"])
    with pytest.raises(InputError, match="differ"):
        make_vault(fresh(), tmp_path, system_bytes, ask=lambda _: next(said))
