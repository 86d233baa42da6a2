import hashlib
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tables
from support.direct import assemble

from clients.members import MemberRows
from clients.rows_digest import rows_digest as digest_of
from privacy.errors import InputError
from privacy.ledger.store import entries_of
from privacy.randomness import Entropy, system_bytes

Change = Callable[[MemberRows], MemberRows]
RUN = b"r" * 32


def rows_digest(rows: MemberRows, home: Path, entropy: Entropy) -> bytes:
    """The digest of one run."""
    return digest_of(rows, run=RUN, home=home, entropy=entropy)


def frame() -> pd.DataFrame:
    """All kinds of cells, some of them missing."""
    return pd.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "load": [0.5, np.nan, -0.0, 1e30],
            "small": np.array([1.0, 2.0, 3.0, 4.0], np.float32),
            "flag": [True, False, True, False],
            "code": ["a", None, "", "grün"],
            "when": pd.to_datetime(pd.Series(["2026-01-01", "2026-01-02", None, "2026-01-04"])),
            "level": pd.Categorical(["low", "high", None, "low"]),
            "count": pd.array([1, None, 3, 4], dtype="Int64"),
        }
    )


def rows() -> MemberRows:
    return MemberRows("bank", frame(), frame().iloc[:2].reset_index(drop=True))


def test_the_same_rows_have_the_same_digest_however_often_they_are_read(tmp_path: Path) -> None:
    first = rows_digest(rows(), tmp_path, system_bytes)
    assert len(first) == 32
    again = MemberRows(
        "bank", frame().set_index(pd.Index([9, 8, 7, 6])), frame().iloc[:2].copy(deep=True)
    )
    for _ in range(3):
        assert rows_digest(again, tmp_path, system_bytes) == first


def test_another_run_has_another_digest_of_the_same_rows(tmp_path: Path) -> None:
    """Else two of them would tell whether rows changed in between."""
    digests = {
        digest_of(rows(), run=run, home=tmp_path, entropy=system_bytes)
        for run in (RUN, b"s" * 32, b"")
    }
    assert len(digests) == 3


def test_another_node_has_another_digest_of_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    digests = {rows_digest(rows(), tmp_path / name, system_bytes) for name in ("a", "b")}
    assert len(digests) == 2
    # and who has the key of the one comes to its digest
    (tmp_path / "b" / "rows.key").write_bytes((tmp_path / "a" / "rows.key").read_bytes())
    assert rows_digest(rows(), tmp_path / "b", system_bytes) in digests


OTHER: dict[str, object] = {
    "id": 7,
    "load": 0.25,
    "small": np.float32(9.0),
    "flag": "the other",
    "code": "b",
    "when": pd.Timestamp("2027-01-01"),
    "level": "high",
    "count": 9,
}


@pytest.mark.parametrize("part", ["train", "test"])
def test_any_cell_that_is_changed_changes_it(tmp_path: Path, part: str) -> None:
    digests = {rows_digest(rows(), tmp_path, system_bytes)}
    tried = 1
    whole = getattr(rows(), part)
    for place in range(len(whole)):
        for name, other in OTHER.items():
            cells = getattr(rows(), part)
            if name == "flag":
                cells.loc[place, name] = not cells.loc[place, name]
            elif name == "level" and cells.loc[place, name] == other:
                cells.loc[place, name] = "low"
            else:
                cells.loc[place, name] = other
            digests.add(rows_digest(replace(rows(), **{part: cells}), tmp_path, system_bytes))
            tried += 1
    assert len(digests) == tried == 1 + len(whole) * len(OTHER)


def of_train(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    return lambda own: replace(own, train=change(own.train))


CHANGES: dict[str, Change] = {
    "rows in another order": of_train(lambda own: own.iloc[::-1]),
    "a row less": of_train(lambda own: own.iloc[:-1]),
    "a row twice": of_train(lambda own: pd.concat([own, own.iloc[:1]])),
    "no rows": of_train(lambda own: own.iloc[:0]),
    "columns in another order": of_train(lambda own: own[list(own.columns)[::-1]]),
    "a column less": of_train(lambda own: own.drop(columns="load")),
    "a column twice under another name": of_train(lambda own: own.assign(more=own["load"])),
    "a column under another name": of_train(lambda own: own.rename(columns={"load": "lead"})),
    "two columns exchanged": of_train(
        lambda own: own.assign(load=own["small"].astype(float), small=own["load"].astype("f4"))
    ),
    "numbers of another width": of_train(lambda own: own.astype({"small": float})),
    "whole numbers as others": of_train(lambda own: own.astype({"id": float})),
    "numbers as text": of_train(lambda own: own.assign(id=own["id"].astype(str))),
    "the sign of nothing": of_train(lambda own: own.assign(load=own["load"] + 0.0)),
    "text where there was none": of_train(lambda own: own.fillna({"code": "None"})),
    "the word nan where there was none": of_train(lambda own: own.fillna({"code": "nan"})),
    "nothing where there was none": of_train(lambda own: own.fillna({"code": ""})),
    "words that are cut elsewhere": of_train(lambda own: own.assign(code=["a", "", "g", "rün"])),
    "parts exchanged": lambda own: replace(own, train=own.test, test=own.train),
    "all rows in one part": lambda own: replace(
        own, train=pd.concat([own.train, own.test]), test=own.test.iloc[:0]
    ),
    "a column moved to the other part": lambda own: replace(
        own,
        train=own.train.drop(columns="count"),
        test=pd.concat({"": own.train[["count"]]}, axis=1).droplevel(0, axis=1),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_else_is_changed_changes_it(tmp_path: Path, name: str) -> None:
    before = rows_digest(rows(), tmp_path, system_bytes)
    assert rows_digest(CHANGES[name](rows()), tmp_path, system_bytes) != before


def test_no_two_changes_are_alike(tmp_path: Path) -> None:
    digests = {rows_digest(change(rows()), tmp_path, system_bytes) for change in CHANGES.values()}
    assert len(digests) == len(CHANGES)


def test_no_column_can_pass_from_one_part_to_the_other_unseen(tmp_path: Path) -> None:
    """Nor can words that no encoding of text has be taken for one another."""
    one, two = frame()[["id"]], frame()[["load"]]
    first = MemberRows("bank", pd.concat([one, two], axis=1), one)
    second = MemberRows("bank", one, pd.concat([two, one], axis=1))
    third = MemberRows("bank", pd.DataFrame({"a": ["\ud800"]}, dtype=object), one)
    fourth = MemberRows("bank", pd.DataFrame({"a": ["?"]}, dtype=object), one)
    digests = [rows_digest(each, tmp_path, system_bytes) for each in (first, second, third, fourth)]
    assert len(set(digests)) == 4


def test_the_key_is_made_once_for_its_owner_alone_and_is_never_replaced(tmp_path: Path) -> None:
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        return bytes(range(count))

    first = rows_digest(rows(), tmp_path, entropy)
    path = tmp_path / "rows.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == bytes(range(32))
    assert rows_digest(rows(), tmp_path, entropy) == first
    assert drawn == [32]
    assert [one.name for one in tmp_path.iterdir()] == ["rows.key"]


@pytest.mark.parametrize("data", [b"", b"short", bytes(33)])
def test_a_key_that_is_none_is_said_to_be_one(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rows.key").write_bytes(data)
    with pytest.raises(InputError, match=r"rows\.key: is no key of 32 bytes; restore it"):
        rows_digest(rows(), tmp_path, system_bytes)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"rows\.key: cannot be used"):
        rows_digest(rows(), tmp_path / "file", system_bytes)


def test_a_nodes_ledger_binds_its_rows_and_holds_nothing_of_them(tmp_path: Path) -> None:
    where = tables.write(tmp_path)
    direct = assemble(where.config, tmp_path)
    direct.run()
    everything = b""
    digests: set[str] = set()
    for node in direct.nodes.values():
        entries = list(entries_of(node._ledger.leaves()))
        kinds = [entry.kind for entry in entries]
        joined = kinds.index("run.joined")
        assert kinds.index("rows.read") == joined + 1 < kinds.index("budget.reserved")
        (read,) = (entry for entry in entries if entry.kind == "rows.read")
        own = node._settings.rows(None)
        digest = digest_of(
            own, run=direct.manifest.digest(), home=node._settings.home, entropy=system_bytes
        )
        assert read.body["rows"] == digest.hex()
        assert read.body["contract"] == direct.manifest.contract
        plain = hashlib.sha256(own.train.to_csv(index=False).encode()).hexdigest()
        assert plain != read.body["rows"]
        digests.add(str(read.body["rows"]))
        everything += b"".join(node._ledger.leaves())
    assert len(digests) == len(tables.MEMBERS)
    everything += b"".join(direct.notes.recorder.store.leaves())
    values = tables.table("binary")["amount"].astype(str)
    assert not any(value.encode() in everything for value in values if len(value) > 5)
    # the coordinator has neither digest nor key
    theirs = b"".join(direct.notes.recorder.store.leaves())
    assert not any(digest.encode() in theirs for digest in digests)
    keys = [(node._settings.home / "rows.key").read_bytes() for node in direct.nodes.values()]
    assert not any(key in everything or key.hex().encode() in everything for key in keys)
    # the twin: what may be there is found by the same search
    assert direct.manifest.contract.encode() in everything
