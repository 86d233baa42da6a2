"""Who has a copy of a node's disk without its key reads nothing that was kept of its runs."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import tables
from support.direct import assemble

from clients.ledger_files import LEDGER
from clients.model_file import opened_model, parse_model
from clients.session_file import FOLDER, SessionFile
from clients.vault import KEY_FILE, MasterKey, Vault, file_key, is_sealed
from clients.vault_folder import ensure_vault, folder_vault
from federation.node_points.rest import rest_points
from privacy.errors import NotVerifiedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.sqlite import SqliteLedger
from privacy.randomness import system_bytes

CANARY = b"canary 31337.0625"


def file(home: Path, run: bytes, vault: Vault | None) -> SessionFile:
    ledger = SqliteLedger(home / LEDGER)
    return SessionFile(home=home, ledger=ledger, run=run, name="a", contract="c", vault=vault)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    begin_ledger(
        SqliteLedger(tmp_path / LEDGER),
        Identity.create(system_bytes),
        owner="north",
        role="node",
        time_ms=1,
    )
    return tmp_path


def vault(home: Path) -> Vault:
    key = MasterKey(file_key(home / KEY_FILE, system_bytes), system_bytes)
    return Vault(key, "L3", system_bytes)


def found(home: Path) -> bool:
    return any(CANARY in one.read_bytes() for one in home.rglob("*") if one.is_file())


def test_what_is_kept_is_sealed_and_the_search_finds_what_is_not(home: Path) -> None:
    run, part = b"\1" * 32, b"\2" * 32
    file(home, run, None).save(CANARY, {part: CANARY})
    assert found(home)  # the twin that leaks
    kept = file(home, run, vault(home))
    # what an earlier version wrote is read, and sealed at the first look
    assert kept.load() == CANARY
    assert is_sealed((kept.folder / "state").read_bytes())
    assert kept.load() == CANARY
    with pytest.raises(NotVerifiedError, match="damaged"):
        kept.part(part)  # its name is not its hash; what is not what it was is not sealed
    assert not is_sealed((kept.folder / part.hex()).read_bytes())
    kept.save(CANARY, {part: CANARY})
    assert not found(home)
    assert all(is_sealed(one.read_bytes()) for one in kept.folder.iterdir())
    assert file(home, run, vault(home)).load() == CANARY
    with pytest.raises(NotVerifiedError, match="its key is gone"):
        file(home, run, None).load()


def test_a_state_that_was_cut_changed_or_moved_is_not_gone_on_with(home: Path) -> None:
    one, other = b"\1" * 32, b"\3" * 32
    file(home, one, vault(home)).save(CANARY, {})
    file(home, other, vault(home)).save(CANARY, {})
    state = home / FOLDER / one.hex() / "state"
    whole = state.read_bytes()
    moved = (home / FOLDER / other.hex() / "state").read_bytes()
    for bad in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), moved):
        state.write_bytes(bad)
        with pytest.raises(NotVerifiedError):
            file(home, one, vault(home)).load()
    state.write_bytes(whole)
    assert file(home, one, vault(home)).load() == CANARY


def test_node_check_says_what_is_not_sealed(home: Path) -> None:
    assert list(rest_points(home)) == []
    file(home, b"\1" * 32, None).save(CANARY, {})
    file_key(home / KEY_FILE, system_bytes)
    (point,) = rest_points(home)
    assert (point.level, point.found[:31]) == ("warning", "1 files of runs under way and r")
    file(home, b"\1" * 32, vault(home)).load()
    (point,) = rest_points(home)
    assert (point.level, "1 files sealed in all" in point.found) == ("ok", True)
    (home / KEY_FILE).chmod(0o644)
    assert [one.level for one in rest_points(home)] == ["failed"]


@pytest.mark.parametrize("share", [None, 2e-6, 4.0])
def test_a_finished_model_without_enough_noise_is_sealed_at_its_node(
    tmp_path: Path, share: float | None
) -> None:
    plan = {"noise": "distributed", "epsilon": 8.0, "rate": 0.25}
    changes: dict[str, Any] = {"training": {"rounds": 1}}
    where = tables.write(
        tmp_path / "data",
        config_changes=changes if share is None else {**changes, "privacy": plan},
    )
    direct = assemble(where.config, where.root)
    if direct.manifest.privacy is not None and share is not None:
        # what a launcher signs is its own: noise that covers a unit, and noise that covers nothing
        told = replace(
            direct.manifest.privacy,
            update_share=share,
            statistics_share=share,
            watch_share=share,
            test_share=share,
        )
        direct.manifest = replace(direct.manifest, privacy=told)
    homes = [node.home for node in direct.nodes.values()]
    for folder in homes[:-1]:
        folder.mkdir(parents=True, exist_ok=True)
        ensure_vault(folder, system_bytes)
    direct.run()
    for folder in homes:
        (path,) = folder.glob("runs/*/model.safetensors")
        vault = folder_vault(folder, "L3", system_bytes)
        # the last has no key: its twin that lies open
        sealed = share != 4.0 and folder != homes[-1]
        assert is_sealed(path.read_bytes()) is sealed
        # nor does the sum that was opened over test rows lie open where the model does not
        assert ('"sum": ' in (path.parent / "sums.jsonl").read_text()) is not sealed
        data = opened_model(path, path.parent.name, vault)
        assert parse_model(data, "here")[0]["model"].size
        report = json.loads((path.parent / "report.json").read_text())
        assert report["file"] == hashlib.sha256(data).hexdigest()
