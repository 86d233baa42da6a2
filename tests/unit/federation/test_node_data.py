"""What a node remembers of its data, and how it reads its own rows."""

from pathlib import Path

import pytest
from support import tables

from clients.contract import load_contract
from federation.cli.node import remember
from federation.home import Home
from federation.node_data import NodeData, paired, reader
from privacy.errors import InputError


@pytest.fixture
def small(tmp_path: Path) -> tables.SmallFederation:
    return tables.write(tmp_path / "rows")


def test_what_was_given_is_remembered_with_whole_paths(
    small: tables.SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small.root)
    NodeData().add(Path("contract.yaml"), Path()).keep(tmp_path / "node")
    monkeypatch.chdir(tmp_path)
    kept = NodeData.read(tmp_path / "node")
    place = kept.places["small_binary"]
    assert (place.contract, place.data) == (small.contract, small.root)
    assert kept.device == "auto"
    assert set(kept.contracts()) == {"small_binary"}


def test_further_contracts_add_and_one_is_forgotten(tmp_path: Path) -> None:
    first, second = tables.write(tmp_path / "a"), tables.write(tmp_path / "b", "count")
    home = Home(tmp_path / "home")
    remember(home, [first.contract], [first.root], [], "cpu")
    remember(home, [second.contract], [second.root], [], None)
    kept = NodeData.read(home.own_node)
    assert set(kept.places) == {"small_binary", "small_count"}
    assert kept.device == "cpu"
    remember(home, [], [], ["small_binary"], None)
    assert set(NodeData.read(home.own_node).places) == {"small_count"}
    with pytest.raises(InputError, match="has no such contract; it has small_count"):
        remember(home, [], [], ["small_binary"], None)
    with pytest.raises(InputError, match="choose auto, cpu or cuda"):
        remember(home, [], [], [], "tpu")


def test_contracts_and_data_are_paired(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert paired([a, b], [a, b]) == [(a, a), (b, b)]
    assert paired([a, b], [a]) == [(a, a), (b, a)]
    for contracts, data in (([a], []), ([a, b], [a, b, a]), ([], [a])):
        with pytest.raises(InputError, match="Give a --data for each --contract"):
            paired(contracts, data)


def test_a_place_that_is_not_there_is_told(small: tables.SmallFederation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        NodeData().add(small.contract, tmp_path / "none")
    with pytest.raises(InputError, match="no such file"):
        NodeData().add(tmp_path / "none.yaml", small.root)


@pytest.mark.parametrize(
    "text", ["nothing", "[]", "{}", '{"format": 2, "device": "auto", "contracts": {}}']
)
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(InputError, match=r"node\.json"):
        NodeData.read(tmp_path)


def test_of_a_contract_with_members_only_its_own_rows_are_kept(
    small: tables.SmallFederation,
) -> None:
    contract = load_contract(small.contract)
    rows = reader(contract, small.root, "south")(None)
    assert rows.member == "south"
    assert set(rows.train["member"]) == {"south"}
    with pytest.raises(InputError, match="has no member Mill"):
        reader(contract, small.root, "Mill")(None)


def test_of_a_contract_without_members_all_rows_are_its_own(tmp_path: Path) -> None:
    small = tables.write(tmp_path / "rows", contract_changes={"members": None})
    contract = load_contract(small.contract)
    rows = reader(contract, small.root, "Mill")(None)
    assert rows.member == "Mill"
    assert len(rows.train) + len(rows.test) == 600
