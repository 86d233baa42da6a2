"""A rekey that is killed at any step loses nothing, and is finished by the same command."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from clients.model_file import MODEL_KIND, opened_model
from clients.passphrase import PassphrasePlace
from clients.rekey import Rekeyed, new_file_source, rekey
from clients.sealed_files import kept_files, label_of
from clients.vault import Vault, unseal
from clients.vault_folder import (
    FILE,
    NEXT,
    FileSource,
    PassphraseSource,
    Source,
    ensure_vault,
    folder_vault,
    open_keys,
    read_vault,
    remove_old_keys,
)
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.randomness import system_bytes

DATA = {
    "node/sessions/" + "ab" * 32 + "/state": ("session", "ab" * 32 + "/state", "L3"),
    "node/review/own/" + "cd" * 32 + ".json": ("review", "own/" + "cd" * 32, "L4"),
    "node/runs/run-1/model.safetensors": ("model", "run-1", "L3"),
    "runs/run-1/model.1.safetensors": ("model", "run-1.1", "L3"),
    "tables/own.csv": ("table", "own.csv", "L3"),
}
STEPS = 2 + len(DATA) + 2
KILLED = """
import os, signal, sys
from pathlib import Path
from clients.rekey import new_file_source, rekey
from privacy.randomness import system_bytes
left = [int(sys.argv[2])]
def told(step):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
rekey(Path(sys.argv[1]), new_file_source(system_bytes), system_bytes, told=told)
"""


def passphrase(place: PassphrasePlace) -> PassphraseSource:
    return PassphraseSource(salt=system_bytes(32).hex(), place=place)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node's folder in a home, with a sealed file of each kind."""
    folder = tmp_path / "node"
    folder.mkdir()
    ensure_vault(folder, system_bytes)
    keys = open_keys(folder, system_bytes)
    assert keys is not None
    for name, (kind, id_, data_class) in DATA.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Vault(keys, data_class, system_bytes).seal(kind, id_, name.encode()))
    return folder


def held(node: Path, ask: Callable[[str], str] = lambda _: "") -> dict[str, bytes]:
    """What all sealed files hold, opened with the vault as it is."""
    keys = open_keys(node, system_bytes, ask=ask)
    assert keys is not None
    files = list(kept_files(node))
    return {
        str(one.path.relative_to(node.parent)): unseal(
            one.path.read_bytes(), label_of(one, keys), keys
        )
        for one in files
    }


WHOLE = {name: name.encode() for name in DATA}


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_kill_at_any_step_loses_nothing(node: Path, step: int) -> None:
    before = (node / "vault.key").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(node), str(step)], check=False, capture_output=True
    )
    assert done.returncode == -9, done.stderr
    if (node / NEXT).exists():
        with pytest.raises(RefusedError, match="cut short, and nothing is lost"):
            open_keys(node, system_bytes)
        assert rekey(node, new_file_source(system_bytes), system_bytes).went_on
    assert held(node) == WHOLE
    # at a start, or at the next rekey, the old key goes too
    known, made = ensure_vault(node, system_bytes)
    assert not made
    remove_old_keys(node, known)  # as a node does as it starts
    assert isinstance(known.source, FileSource)
    assert [one.name for one in node.glob("*.key")] == [known.source.file]
    assert ((node / known.source.file).read_bytes() == before) is (step == 1)


def test_a_reader_beside_a_rekey_takes_no_key_away(node: Path) -> None:
    """Whoever read the settings before has the old ones, and asks for a passphrase meanwhile."""
    before = read_vault(node)
    assert before is not None
    steps: list[str] = []

    def beside(step: str) -> None:
        steps.append(step)
        with suppress(RefusedError):  # a rekey is under way
            ensure_vault(node, system_bytes)

    rekey(node, new_file_source(system_bytes), system_bytes, told=beside)
    remove_old_keys(node, before)
    assert "the new key is there" in steps
    assert held(node) == WHOLE


def test_a_vault_whose_settings_are_gone_gets_no_new_key(node: Path) -> None:
    rekey(node, new_file_source(system_bytes), system_bytes)
    whole = (node / FILE).read_bytes()
    (node / FILE).unlink()
    with pytest.raises(InputError, match="put it back from your copy"):
        ensure_vault(node, system_bytes)
    (node / FILE).write_bytes(whole)
    assert held(node) == WHOLE


def test_each_kind_of_key_opens_all_and_the_one_before_nothing(node: Path) -> None:
    first = {one.path: one.path.read_bytes() for one in kept_files(node)}
    old = open_keys(node, system_bytes)
    assert old is not None
    secret = node.parent / "secret"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    sources: list[Source] = [
        passphrase(PassphrasePlace(of="file", at=str(secret))),
        passphrase(PassphrasePlace(of="terminal")),
        new_file_source(system_bytes),
    ]
    for source in sources:
        done = rekey(node, source, system_bytes, ask=lambda _: "another long passphrase")
        assert done == Rekeyed(len(DATA), source.kind, went_on=False)
        assert held(node) == WHOLE
        assert list(node.glob("*.key")) == ([node / source.file] if source.kind == "file" else [])
        assert b"passphrase " not in (node / FILE).read_bytes()
    for one in kept_files(node):
        assert one.path.read_bytes() != first[one.path]
        with pytest.raises(NotVerifiedError, match="sealed with another key"):
            label_of(one, old)


def test_a_damaged_file_stops_a_rekey_before_it_begins(node: Path) -> None:
    path = node.parent / "tables" / "own.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(NotVerifiedError, match=r"own\.csv: is damaged"):
        rekey(node, new_file_source(system_bytes), system_bytes)
    assert not (node / NEXT).exists()
    path.write_bytes(whole)
    assert held(node) == WHOLE


def test_a_wrong_key_is_told_from_a_damaged_file(node: Path) -> None:
    (node / "vault.key").write_bytes(system_bytes(32))
    with pytest.raises(InputError, match="the key file is another one"):
        open_keys(node, system_bytes)
    (node / "vault.key").unlink()
    with pytest.raises(InputError, match="put it back from your copy"):
        ensure_vault(node, system_bytes)
    whole = (node / FILE).read_bytes()
    for bad in (whole[:-20], whole.replace(b'"check": "', b'"check": "00'), b"{}", b"[]"):
        (node / FILE).write_bytes(bad)
        with pytest.raises(InputError, match=r"vault\.json: is damaged"):
            open_keys(node, system_bytes)


def test_models_open_for_their_run_alone(node: Path) -> None:
    vault = folder_vault(node, "L3", system_bytes)
    assert vault is not None
    path = node / "runs" / "run-1" / "model.safetensors"
    assert opened_model(path, "run-1", vault) == b"node/runs/run-1/model.safetensors"
    for run, one in (("run-2", vault), ("run-1", None)):
        with pytest.raises(NotVerifiedError):
            opened_model(path, run, one)
    assert MODEL_KIND == "model"
    assert folder_vault(node, "L2", system_bytes) is None
