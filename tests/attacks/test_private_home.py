"""Other users of a machine do not get into a home, whatever command made it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from support import tables

from clients.contract import load_contract
from federation.certificates import private_folder
from federation.home import Home
from federation.node_data import NodeData
from federation.node_policy import set_terms
from federation.registry.witness import LogWitness
from federation.review_places import embedded_place
from privacy.identity import Identity
from privacy.ledger.keys import cosigner_key
from privacy.randomness import system_bytes


@pytest.fixture(autouse=True)
def usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def joins(home: Home, where: Path) -> None:
    del where
    private_folder(home.participant)


def sets_terms(home: Home, where: Path) -> None:
    (where / "terms.yaml").write_text("{}\n")
    set_terms(home.own_node, where / "terms.yaml")


def names_data(home: Home, where: Path) -> None:
    del where
    NodeData().keep(home.own_node)


def looks_at_rows(home: Home, where: Path) -> None:
    contract = load_contract(tables.write(where).contract)
    embedded_place(home, contract, "north").open().look({})


def remembers_rows(home: Home, where: Path) -> None:
    contract = load_contract(tables.write(where).contract)
    embedded_place(home, contract, "north").remember(where, where)


def witnesses(home: Home, where: Path) -> None:
    del where
    identity = Identity.create(system_bytes)
    key = cosigner_key("Regulator", identity.public)
    LogWitness(home.root / "witness", key=key, sign=identity.sign_note)


def runs(home: Home, where: Path) -> None:
    del where
    with home.exclusive():
        pass


FIRST: Final = (joins, sets_terms, names_data, looks_at_rows, remembers_rows, witnesses, runs)


@pytest.mark.parametrize("first", FIRST)
def test_a_home_is_its_owners_alone_whatever_made_it(
    tmp_path: Path, first: Callable[[Home, Path], None]
) -> None:
    shared, where = tmp_path / "shared", tmp_path / "where"
    for folder in (shared, where):
        folder.mkdir(mode=0o755)
    home = Home(shared / "home")
    first(home, where)
    assert home.root.stat().st_mode & 0o777 == 0o700
    # what was there before is not tacit's
    assert shared.stat().st_mode & 0o777 == 0o755


def test_all_folders_that_a_participant_makes_are_its_owners_alone(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "home" / "participant")
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3
