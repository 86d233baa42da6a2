"""Where reviews are kept: a deployed node's in its own folder and ledger, embedded ones apart."""

from pathlib import Path

import pytest
from support.federations import Federated
from support.machines import Machines, overheat, readings, write

from clients.gate import Device
from clients.ledger_files import LEDGER
from clients.vault import KEY_FILE, file_key, is_sealed
from federation.home import Home
from federation.node_data import NodeData, reader
from federation.node_points.reviews import review_points
from federation.node_points.rows import remembered_points
from federation.quality import gate_members
from federation.review_places import chosen_places, find_device, known_places
from privacy.errors import InputError
from privacy.ledger.entry import parse_leaf
from privacy.ledger.sqlite import SqliteLedger
from privacy.randomness import system_bytes


@pytest.fixture
def where(tmp_path: Path) -> Machines:
    return write(tmp_path / "data", overheat(readings(), "n1", range(10, 13)))


@pytest.fixture
def home(tmp_path: Path, where: Machines) -> Home:
    """Of the manufacturer north, which remembers the contract."""
    federated = Federated(tmp_path / "federation")
    federated.add("north", "manufacturer")
    home = federated.homes["north"]
    NodeData().add(where.contract, where.root).keep(home.own_node)
    return home


def test_a_deployed_node_has_its_reviews_in_its_own_folder_and_ledger(
    home: Home, where: Machines
) -> None:
    contract, found = gate_members(home, where.contract, where.root, member=None)
    assert [one.member for one in found] == ["north"]
    assert found[0].waiting == (Device("n1"),)
    leaves = [parse_leaf(leaf) for leaf in SqliteLedger(home.own_node / LEDGER).leaves()]
    assert [one.kind for one in leaves] == ["ledger.begun", "device.held"]
    assert leaves[0].body["owner"] == "north"
    assert not (home.root / "nodes").exists()
    (place,) = known_places(home)
    assert (place.member, place.dataset) == ("north", contract.name)
    assert place.remembered() == (where.contract, where.root)
    # the running node reads the same rows, and its own reviews
    rows = reader(contract, where.root, "north")(None)
    assert "n1" in {*rows.train["machine"], *rows.test["machine"]}


def test_what_a_node_seals_its_people_read_and_decide_on(home: Home, where: Machines) -> None:
    """The node seals reviews of L3 rows; nobody who names only a data set knows the class."""
    file_key(home.own_node / KEY_FILE, system_bytes)
    contract, _ = gate_members(home, where.contract, where.root, member=None)
    places = chosen_places(home, member=None, dataset=None)
    place, reviews, one = find_device(places, "n1")
    assert one.device == Device("n1")
    files = [path for path in reviews.folder.glob("*.json") if path.name != "place.json"]
    assert all(is_sealed(path.read_bytes()) for path in files)
    reviews.decide(one.digest, "release", reason="fine", by="ann", seen=reviews.shown(one.digest))
    # the node, which knows the class, reads what was released
    _, found = gate_members(home, where.contract, where.root, member=None)
    assert (found[0].waiting, found[0].left_out) == ((), 0)
    files = [path for path in reviews.folder.glob("*.json") if path.name != "place.json"]
    assert len(files) == 2
    assert all(is_sealed(path.read_bytes()) for path in files)
    assert [point.level for point in review_points(contract, home.own_node)] == ["ok"]
    (home.own_node / KEY_FILE).write_bytes(bytes(32))
    with pytest.raises(InputError, match="the key file is another one"):
        gate_members(home, where.contract, where.root, member=None)
    with pytest.raises(InputError, match="the key file is another one"):
        place.open(begin=False).remembered()
    assert [point.level for point in review_points(contract, home.own_node)] == ["failed"]


def test_a_nodes_check_tells_that_a_device_waits(home: Home, where: Machines) -> None:
    def told() -> list[tuple[str, str]]:
        points = remembered_points(home.own_node, "north", rows=False)
        return [(one.level, one.found) for one in points if one.name == "devices machines"]

    assert told() == [("ok", "No device was ever looked at; tacit data gate does.")]
    contract, _ = gate_members(home, where.contract, where.root, member=None)
    assert told()[0][0] == "warning"
    assert "1 device waits" in told()[0][1]
    place, reviews, one = find_device(chosen_places(home, member=None, dataset=None), "n1")
    reviews.decide(one.digest, "reject", reason="broken", by="ann")
    assert told() == [("ok", "No device waits for a person; 1 stay rejected.")]
    ledger = place.folder / LEDGER
    ledger.write_bytes(b"no ledger" * 100)
    assert [one.level for one in review_points(contract, home.own_node)] == ["failed"]


def test_a_device_is_found_by_its_name_or_its_digest(home: Home, where: Machines) -> None:
    gate_members(home, where.contract, where.root, member=None)
    places = chosen_places(home, member=None, dataset=None)
    _, _, one = find_device(places, "n1")
    assert find_device(places, one.digest[:12])[2] == one
    for wrong in ("n2", one.digest[:7], ""):
        with pytest.raises(InputError, match="names no device"):
            find_device(places, wrong)
    assert chosen_places(home, member="south", dataset=None) == ()
    assert chosen_places(home, member=None, dataset="pumps") == ()


def test_rows_that_are_not_over_time_have_no_gate(tmp_path: Path, where: Machines) -> None:
    contract = tmp_path / "plain.yaml"
    contract.write_text(
        "{contract: 1, name: plain, unit: borrower, sources: [{path: a.csv, part: train}], "
        "columns: [{name: x, type: number, class: L1, range: [0, 1]}, "
        "{name: y, type: integer, role: label, class: L1}], label: {kind: binary, column: y}}"
    )
    with pytest.raises(InputError, match="not about devices over time"):
        gate_members(Home(tmp_path / "home"), contract, where.root, member=None)
