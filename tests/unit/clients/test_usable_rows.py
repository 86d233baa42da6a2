"""Which rows a node uses: not those of devices that wait, were rejected, or are not trusted."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.direct import Direct, assemble
from support.machines import HOT, column, contract, overheat, readings, write

from clients.contract import load_contract
from clients.gate import Device
from clients.members import read_members
from clients.review_store import Reviews
from clients.source import UNIT
from clients.usable_rows import open_reviews, usable
from privacy.errors import RefusedError
from privacy.ledger.entry import parse_leaf
from privacy.ledger.memory import MemoryLedger
from privacy.messages import Parcel, Request
from privacy.randomness import system_bytes


def watched(direct: Direct) -> dict[str, set[str]]:
    """Member -> devices of its rows, training and test, in the run that comes."""
    found: dict[str, set[str]] = {}

    def note(member: str, request: Request, reply: Parcel) -> Parcel:
        del request
        node = next(node for node in direct.nodes.values() if node.member == member)
        for session in node._sessions.values():
            found[member] = {*session.rows.train[UNIT], *session.rows.test[UNIT]}
        return reply

    direct.transport.tamper_reply = note
    return found


def reviews_of(direct: Direct, member: str) -> Reviews:
    node = next(node for node in direct.nodes.values() if node.member == member)
    return open_reviews(node.home, node._ledger, direct.project.contract, system_bytes)


def test_a_run_uses_no_row_of_a_held_device_until_a_person_releases_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = write(tmp_path, overheat(readings(), "n1", range(10, 13)))
    everybody = {f"n{number}" for number in range(4)}
    first = assemble(where.config, where.root)
    used = watched(first)
    with caplog.at_level(logging.INFO):
        held = first.run()
    assert used["north"] == everybody - {"n1"}
    assert used["south"] == {f"s{number}" for number in range(4)}
    (said,) = [line for line in caplog.messages if "left out" in line]
    assert said.startswith("40 of 160 rows of machines are left out: of 1 devices under review")
    # nobody else is told: neither the coordinator's ledger nor a message knows of it
    assert "n1" not in str(first.notes.entries) + str(first.notes.sentences)
    assert "device." not in str([kind for kind, _ in first.notes.entries])
    reviews = reviews_of(first, "north")
    reviews.decide(reviews.device(Device("n1")), "release", reason="a test bench", by="ann")
    second = first.again("second-run", restarted=True)
    used = watched(second)
    released = second.run()
    assert used["north"] == everybody
    # training, statistics and the model saw other rows
    assert not np.array_equal(held.model, released.model)
    assert not np.array_equal(held.statistics[0], released.statistics[0])
    assert second.verdict().runs == 2


def test_a_run_over_held_rows_is_the_run_of_a_member_that_never_had_them(tmp_path: Path) -> None:
    frame = overheat(readings(), "n1", range(10, 13))
    held = assemble(*_placed(tmp_path / "held", frame)).run()
    without = assemble(*_placed(tmp_path / "without", frame[frame["machine"] != "n1"])).run()
    # but for what is lost when numbers are rounded to be masked
    assert np.allclose(held.statistics[0], without.statistics[0], rtol=1e-6)
    assert held.metrics == pytest.approx(without.metrics, rel=1e-3)


def _placed(folder: Path, frame: pd.DataFrame) -> tuple[Path, Path]:
    where = write(folder, frame)
    return where.config, where.root


def test_a_rejected_device_is_left_out_for_good(tmp_path: Path) -> None:
    where = write(tmp_path, overheat(readings(), "n1", range(10, 13)))
    first = assemble(where.config, where.root)
    first.run()
    reviews = reviews_of(first, "north")
    reviews.decide(reviews.device(Device("n1")), "reject", reason="broken", by="ann")
    second = first.again("second-run", restarted=True)
    used = watched(second)
    second.run()
    assert "n1" not in used["north"]


def test_a_member_without_rows_to_use_joins_no_run(tmp_path: Path) -> None:
    frame = readings()
    frame.loc[(frame["member"] == "north") & (frame["hour"] < 3), "heat"] = HOT
    where = write(tmp_path, frame)
    direct = assemble(where.config, where.root)
    with pytest.raises(RefusedError):
        direct.run()
    node = next(iter(direct.nodes.values()))
    assert node.member == "north"
    assert not node._sessions
    kinds = [parse_leaf(leaf).kind for leaf in node._ledger.leaves()]
    assert kinds.count("device.held") == 4
    assert "run.joined" not in kinds


def gated(tmp_path: Path, frame: pd.DataFrame, gate: dict[str, Any], *more: str) -> set[str]:
    """Devices of north that are used."""
    value = contract(gate=gate)
    changes = {"gate": gate, "columns": [*value["columns"], *(column(name) for name in more)]}
    where = write(tmp_path, frame, contract_changes=changes)
    known = load_contract(where.contract)
    rows = read_members(known, where.root, only=frozenset({"north"}))["north"]
    reviews = open_reviews(tmp_path, MemoryLedger(), known, system_bytes)
    found = usable(rows, known, reviews)
    used = {*found.rows.train[UNIT], *found.rows.test[UNIT]}
    left_out = {one.unit for one in found.distrusted | found.looked.left_out}
    assert left_out == {*rows.train[UNIT], *rows.test[UNIT]} - used
    return used


def test_devices_of_too_little_trust_are_left_out_where_the_contract_says_how_much(
    tmp_path: Path,
) -> None:
    frame = readings()
    frame["boots"] = 0.0
    frame.loc[frame["machine"] == "n2", "boots"] = 1.0
    everybody = {f"n{number}" for number in range(4)}
    rules = {"interval": 1, "restarts": "boots"}
    assert gated(tmp_path / "a", frame, rules, "boots") == everybody
    assert gated(tmp_path / "b", frame, {**rules, "least_trust": 80}, "boots") == everybody - {"n2"}
    sparse = frame[(frame["machine"] != "n3") | (frame["hour"] % 5 == 0)]
    found = gated(tmp_path / "c", sparse, {**rules, "least_trust": 80}, "boots")
    assert found == everybody - {"n2", "n3"}


def test_what_becomes_of_a_device_depends_on_no_other_device(tmp_path: Path) -> None:
    """Else noise that hides one device would not hide what it does to the others' rows."""
    frame = overheat(readings(), "n1", range(10, 13))
    sparse = (frame["machine"] == "n3") & (frame["hour"] % 4 > 0)
    frame = frame[~sparse]
    rules = {"interval": 1, "least_trust": 70}
    together = gated(tmp_path / "all", frame, rules)
    assert together == {"n0", "n2"}
    for number in range(4):
        others = frame[frame["machine"] != f"n{number}"]
        left = gated(tmp_path / f"without{number}", others, rules)
        assert left == together - {f"n{number}"}


def test_without_thresholds_and_gate_rows_are_what_was_read(tmp_path: Path) -> None:
    columns = [
        {key: value for key, value in one.items() if key != "threshold"}
        for one in contract()["columns"]
    ]
    where = write(
        tmp_path,
        overheat(readings(), "n1", range(10, 20)),
        contract_changes={"columns": columns},
    )
    direct = assemble(where.config, where.root)
    used = watched(direct)
    direct.run()
    assert "n1" in used["north"]
    assert not (tmp_path / "nodes" / "north" / "review").exists()
