"""Whose row is whose, and which rows test: by rules that published protocols repeat to the row."""

import gzip
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold, train_test_split

from clients.contract import DataContract, load_contract
from clients.frozen import parse_settings
from clients.members import MemberRows, member_name, member_names, read_members
from privacy.errors import DataError, InputError, TacitError

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
real_data = pytest.mark.skipif(
    not (DATA / "cmapss").is_dir(), reason="needs the public data sets, in TACIT_DATA"
)


def contract(
    members: object = None,
    split: object = None,
    *,
    more_columns: Sequence[Mapping[str, object]] = (),
) -> DataContract:
    value: dict[str, object] = {
        "contract": 1,
        "name": "loans",
        "unit": "borrower",
        "sources": [{"path": "rows.csv"}],
        "columns": [
            {"name": "who", "type": "integer", "role": "id", "class": "L3"},
            {"name": "town", "type": "text", "role": "member", "class": "L2"},
            {"name": "age", "type": "integer", "class": "L3", "range": [0, 100]},
            {"name": "late", "type": "integer", "role": "label", "class": "L3"},
            *more_columns,
        ],
        "label": {"kind": "binary", "column": "late"},
    }
    if members is not None:
        value["members"] = members
    if split is not None:
        value["split"] = split
    return parse_settings(DataContract, value, "x")


UNITS = {"kind": "units", "seed": 3, "test_share": 0.4}
UNIFORM = {"kind": "uniform", "seed": 500, "test_share": 0.3}


def write(path: Path, rows: int = 200, *, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "who": draw.permutation(rows) + 1,
            "town": draw.choice(["Ulm", "Bad Ems", "Köln", "Aix"], rows, p=[0.5, 0.3, 0.1, 0.1]),
            "age": draw.integers(18, 80, rows),
            "late": (draw.random(rows) < 0.3).astype(int),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return frame


def rows_of(members: Mapping[str, MemberRows], *, test: bool) -> list[int]:
    parts = [one.test if test else one.train for one in members.values()]
    return sorted(int(row) for part in parts for row in part["__row"])


def test_every_row_belongs_to_one_member_and_one_part(tmp_path: Path) -> None:
    frame = write(tmp_path / "rows.csv")
    found = read_members(contract({"by": ["town"]}, UNITS), tmp_path)
    assert list(found) == ["Aix", "Bad-Ems", "Koln", "Ulm"]
    assert sorted(rows_of(found, test=False) + rows_of(found, test=True)) == list(range(200))
    for name, one in found.items():
        assert one.member == name
        for part in (one.train, one.test):
            assert {member_name(text) for text in part["town"]} == {name}
            assert part.index.tolist() == list(range(len(part)))
            own = frame.iloc[part["__row"]]
            assert part["who"].tolist() == own["who"].astype(str).tolist()
            assert part["__unit"].tolist() == part["who"].tolist()
            assert part["__y"].tolist() == own["late"].tolist()


def test_only_some_members_can_be_read_and_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    what = contract({"by": ["town"]}, UNIFORM)
    every = read_members(what, tmp_path)
    some = read_members(what, tmp_path, only=frozenset({"Ulm", "Aix"}))
    assert list(some) == ["Aix", "Ulm"]
    for name, one in some.items():
        pd.testing.assert_frame_equal(one.train, every[name].train)
        pd.testing.assert_frame_equal(one.test, every[name].test)


def test_an_unknown_member_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    with pytest.raises(InputError, match=r"no member Ulmm; did you mean Ulm\?$"):
        read_members(contract({"by": ["town"]}, UNITS), tmp_path, only=frozenset({"Ulmm"}))


def test_without_a_rule_all_rows_are_one_members(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    assert list(read_members(contract(split=UNITS), tmp_path, sole_member="acme")) == ["acme"]
    assert member_names(contract(split=UNITS), tmp_path, sole_member="acme") == ("acme",)
    assert member_names(contract(split=UNITS), tmp_path) == ("loans",)


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ({"column": "town"}, ("Aix", "Bad-Ems", "Koln", "Ulm")),
        ({"column": "town", "largest": 2, "rest": "rest"}, ("Bad-Ems", "Ulm", "rest")),
        ({"column": "town", "largest": 4}, ("Aix", "Bad-Ems", "Koln", "Ulm")),
        ({"column": "who", "modulo": 3}, ("0", "1", "2")),
        ({"column": "age", "edges": [0, 30, 50]}, ("0-29", "30-49", "50+")),
    ],
)
def test_rules_name_members(
    tmp_path: Path, rule: dict[str, object], names: tuple[str, ...]
) -> None:
    frame = write(tmp_path / "rows.csv")
    what = contract({"by": [rule]}, UNITS)
    assert member_names(what, tmp_path) == names
    found = read_members(what, tmp_path)
    assert tuple(found) == names
    for name, one in found.items():
        both = pd.concat([one.train, one.test])
        own = frame.iloc[both["__row"]]
        if "modulo" in rule:
            assert set(own["who"] % 3) == {int(name)}
        if "edges" in rule:
            low, high = {"0-29": (0, 30), "30-49": (30, 50), "50+": (50, 1000)}[name]
            assert own["age"].between(low, high, inclusive="left").all()
        if name == "rest":
            assert set(own["town"]) == {"Köln", "Aix"}


def test_several_rules_join_their_names(tmp_path: Path) -> None:
    frame = write(tmp_path / "rows.csv")
    what = contract(
        {"by": [{"column": "town", "largest": 1}, {"column": "who", "modulo": 2}]}, UNITS
    )
    found = read_members(what, tmp_path)
    assert list(found) == ["Ulm-0", "Ulm-1", "others-0", "others-1"]
    own = frame.iloc[found["others-1"].train["__row"]]
    assert "Ulm" not in set(own["town"])
    assert set(own["who"] % 2) == {1}


def test_equal_sizes_are_ranked_by_name(tmp_path: Path) -> None:
    rows = "".join(f"{n},{town},20,{n % 2}\n" for n, town in enumerate("bcad" * 6))
    (tmp_path / "rows.csv").write_text("who,town,age,late\n" + rows)
    what = contract({"by": [{"column": "town", "largest": 2}]}, UNITS)
    assert member_names(what, tmp_path) == ("a", "b", "others")


def test_missing_cells_make_the_member_other(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("who,town,age,late\n1,,20,0\n2,a,20,1\n3,,20,1\n4,a,20,0\n")
    assert member_names(contract({"by": ["town"]}, UNITS), tmp_path) == ("a", "other")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ile-de-France", "Ile-de-France"),
        ("Provence-Alpes-Cotes-D'Azur", "Provence-Alpes-Cotes-D-Azur"),
        ("Île  de/France", "Ile-de-France"),
        ("../../etc", "_.-..-etc"),
        ("-2", "_2"),
        ("北京", "北京"),
        ("51+", "51+"),
    ],
)
def test_a_members_name_can_name_a_folder(text: str, name: str) -> None:
    assert member_name(text) == name


def test_names_that_fall_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("who,town,age,late\n1,a b,20,0\n2,a/b,20,1\n")
    with pytest.raises(DataError, match="differ only in signs that no folder's name can hold"):
        member_names(contract({"by": ["town"]}, UNITS), tmp_path)


def test_values_below_the_lowest_band_are_refused_unseen(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("who,town,age,late\n1,a,17,0\n2,a,30,1\n")
    what = contract({"by": [{"column": "age", "edges": [18, 25]}]}, UNITS)
    with pytest.raises(DataError, match="Column age has values below the lowest") as failure:
        read_members(what, tmp_path)
    assert "17" not in str(failure.value)


def test_a_uniform_split_is_drawn_over_the_whole_file(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    found = read_members(contract({"by": ["town"]}, UNIFORM), tmp_path)
    expected = np.flatnonzero(np.random.RandomState(500).rand(200) < 0.3)
    assert rows_of(found, test=True) == expected.tolist()


def test_a_stratified_split_is_scikit_learns(tmp_path: Path) -> None:
    frame = write(tmp_path / "rows.csv")
    split = {"kind": "stratified", "seed": 42, "test_share": 0.2}
    found = read_members(contract({"by": ["town"]}, split), tmp_path)
    _, expected = train_test_split(
        np.arange(200), test_size=0.2, stratify=frame["late"], random_state=42
    )
    assert rows_of(found, test=True) == sorted(expected.tolist())


@pytest.mark.parametrize("fold", [0, 3])
def test_folds_are_scikit_learns(tmp_path: Path, fold: int) -> None:
    frame = write(tmp_path / "rows.csv")
    what = contract({"by": ["town"]}, {"kind": "folds", "seed": 42, "folds": 4})
    folds = StratifiedKFold(n_splits=4, shuffle=True, random_state=42)
    expected = list(folds.split(np.zeros(200), frame["late"]))[fold][1]
    assert rows_of(read_members(what, tmp_path, fold=fold), test=True) == expected.tolist()


@pytest.mark.parametrize("fold", [None, -1, 4])
def test_a_run_names_a_fold_that_exists(tmp_path: Path, fold: int | None) -> None:
    write(tmp_path / "rows.csv")
    what = contract({"by": ["town"]}, {"kind": "folds", "seed": 42, "folds": 4})
    with pytest.raises(InputError, match="splits into 4 folds; name one from 0 to 3"):
        read_members(what, tmp_path, fold=fold)
    with pytest.raises(InputError, match="has no folds; leave the fold out"):
        read_members(contract(split=UNITS), tmp_path, fold=1)


def test_a_unit_tests_with_all_its_rows_wherever_it_lies(tmp_path: Path) -> None:
    frame = write(tmp_path / "rows.csv")
    doubled = pd.concat([frame, frame.sample(frac=1, random_state=1)])
    doubled.to_csv(tmp_path / "rows.csv", index=False)
    found = read_members(contract(split=UNITS), tmp_path)["loans"]
    for unit in set(found.train["__unit"]) | set(found.test["__unit"]):
        place = int(hashlib.sha256(f"3|{unit}".encode()).hexdigest(), 16) / 2**256
        assert (unit in set(found.test["__unit"])) == (place < 0.4)
    assert not set(found.train["__unit"]) & set(found.test["__unit"])
    assert 0.25 < found.test["__unit"].nunique() / 200 < 0.55


@pytest.mark.parametrize("kind", ["stratified", "folds"])
def test_one_class_cannot_be_stratified(tmp_path: Path, kind: str) -> None:
    (tmp_path / "rows.csv").write_text("who,town,age,late\n1,a,20,0\n2,a,20,0\n3,a,20,0\n")
    split = {"kind": kind, "seed": 0} | ({"folds": 2} if kind == "folds" else {"test_share": 0.5})
    with pytest.raises(DataError, match="needs two classes with 2 rows or more each"):
        read_members(contract(split=split), tmp_path, fold=0 if kind == "folds" else None)


def by_file(**more: object) -> DataContract:
    rule = {"path": "who.csv", "key": "id", "column": "bank", "members": ["b", "a", "c"]}
    return contract({"file": rule | {"test": "test"} | more})


def test_a_file_names_members_and_test_rows_are_dealt_out(tmp_path: Path) -> None:
    frame = write(tmp_path / "rows.csv")
    draw = np.random.default_rng(1)
    bank = draw.choice(["a", "b", "c", "test"], 200)
    named = pd.DataFrame({"bank": bank, "id": frame["who"].astype(float)})
    named.sample(frac=1, random_state=0).to_csv(tmp_path / "who.csv", index=False)
    found = read_members(by_file(), tmp_path)
    assert member_names(by_file(), tmp_path) == tuple(found) == ("a", "b", "c")
    for name, one in found.items():
        assert one.train["__row"].tolist() == np.flatnonzero(bank == name).tolist()
        dealt = [row for row in np.flatnonzero(bank == "test") if "bac"[row % 3] == name]
        assert one.test["__row"].tolist() == dealt


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,bank\n1,a\n", "who.csv: 3 rows or more have an id that it does not name"),
        ("id,bank\n1,a\n1,b\n", "who.csv: an id is there twice"),
        ("id,bank\n1,mallory\n", "who.csv: column bank names a member that the contract does not"),
        ("id,bank\n,a\n", "or an id is empty"),
        ("id,bunk\n1,a\n", "who.csv: has no column bank; did you mean bunk?"),
        ("", "who.csv: is empty"),
    ],
)
def test_a_members_file_that_does_not_fit_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "rows.csv").write_text(
        "who,town,age,late\n1,a,20,0\n2,a,20,0\n3,a,20,0\n4,a,20,0\n"
    )
    (tmp_path / "who.csv").write_text(text)
    with pytest.raises(DataError) as failure:
        read_members(by_file(), tmp_path)
    assert sentence in str(failure.value)
    assert "mallory" not in str(failure.value)


def test_a_folder_holds_a_folder_or_a_file_a_member(tmp_path: Path) -> None:
    one = write(tmp_path / "banks" / "first" / "rows.csv", seed=1)
    write(tmp_path / "second.csv", seed=2)
    packed = gzip.compress((tmp_path / "second.csv").read_bytes())
    (tmp_path / "banks" / "second.csv.gz").write_bytes(packed)
    (tmp_path / "banks" / ".hidden").write_text("")
    what = contract({"folder": "banks"}, UNIFORM)
    assert member_names(what, tmp_path) == ("first", "second")
    found = read_members(what, tmp_path)
    # each draws over its own rows, as a member that cannot know the others does
    expected = np.flatnonzero(np.random.RandomState(500).rand(200) < 0.3).tolist()
    assert [x.test["__row"].tolist() for x in found.values()] == [expected, expected]
    assert found["first"].test["who"].tolist() == one["who"].astype(str)[expected].tolist()
    alone = read_members(what, tmp_path, only=frozenset({"second"}))
    pd.testing.assert_frame_equal(alone["second"].train, found["second"].train)
    with pytest.raises(InputError, match="no member third"):
        read_members(what, tmp_path, only=frozenset({"third"}))


def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    what = contract({"folder": "banks"}, UNITS)
    with pytest.raises(InputError, match="banks: no such folder below"):
        read_members(what, tmp_path)
    (tmp_path / "banks").mkdir()
    with pytest.raises(InputError, match="banks: is empty; put one folder or file a member"):
        read_members(what, tmp_path)
    (tmp_path / "banks" / "a b").mkdir()
    (tmp_path / "banks" / "a-b").mkdir()
    with pytest.raises(InputError, match="two entries name the member a-b; rename one"):
        read_members(what, tmp_path)


def test_a_member_without_training_rows_is_named(tmp_path: Path) -> None:
    rows = "1,a,20,0,train\n2,a,20,1,test\n3,b,20,1,test\n"
    (tmp_path / "rows.csv").write_text("who,town,age,late,part\n" + rows)
    part = {"name": "part", "type": "text", "role": "part", "class": "L1"}
    told = contract({"by": ["town"]}, more_columns=[part])
    with pytest.raises(DataError, match="Member b of loans has no training rows; check the"):
        read_members(told, tmp_path)
    assert len(read_members(told, tmp_path, only=frozenset({"a"}))["a"].test) == 1
    (tmp_path / "rows.csv").write_text("who,town,age,late,part\n1,a,20,0,train\n2,b,20,1,train\n")
    with pytest.raises(DataError, match="loans has no test rows at all; check the"):
        read_members(told, tmp_path)
    (tmp_path / "rows.csv").write_text("who,town,age,late,part\n1,a,20,0,train\n2,b,20,1,dev\n")
    with pytest.raises(DataError, match="Column part tells each row's part"):
        read_members(told, tmp_path)


def test_a_file_that_changes_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "rows.csv")
    import clients.members as module

    whole = module.assign

    def and_then_change(*args: object, **more: object) -> object:
        found = whole(*args, **more)  # type: ignore[arg-type]
        write(tmp_path / "rows.csv", 199)
        return found

    monkeypatch.setattr(module, "assign", and_then_change)
    with pytest.raises(DataError, match="changed while they were read; start again"):
        read_members(contract(split=UNITS), tmp_path)


def test_telemetry_lies_unit_by_unit_in_order_of_time(tmp_path: Path) -> None:
    what = parse_settings(
        DataContract,
        {
            "contract": 1,
            "name": "pumps",
            "unit": "device",
            "sources": [{"path": "rows.csv"}],
            "columns": [
                {"name": "pump", "type": "text", "role": "id", "class": "L3"},
                {"name": "hour", "type": "time", "role": "time", "class": "L3"},
                {
                    "name": "heat",
                    "type": "number",
                    "role": "sensor",
                    "class": "L3",
                    "range": [0, 9],
                },
            ],
            "split": {"kind": "units", "seed": 0, "test_share": 0.5},
            "label": {"kind": "remaining_life", "cap": 2},
        },
        "x",
    )
    draw = np.random.default_rng(0)
    rows = [(f"p{pump}", hour) for pump in range(8) for hour in range(5)]
    order = draw.permutation(len(rows))
    text = "".join(f"{rows[i][0]},{rows[i][1]},1\n" for i in order)
    (tmp_path / "rows.csv").write_text("pump,hour,heat\n" + text)
    found = read_members(what, tmp_path)["pumps"]
    for part in (found.train, found.test):
        assert len(part) > 0
        assert part["hour"].tolist() == [0, 1, 2, 3, 4] * (len(part) // 5)
        assert (
            part["__unit"].to_numpy().reshape(-1, 5) == part["__unit"].to_numpy()[::5, None]
        ).all()
        assert part["__y_raw"].tolist() == [4, 3, 2, 1, 0] * (len(part) // 5)
        assert part["__y"].tolist() == [2, 2, 2, 1, 0] * (len(part) // 5)


def test_errors_of_reading_stay_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=r"^rows.csv: no such file"):
        member_names(contract({"by": ["town"]}, UNITS), tmp_path)


def shipped(name: str) -> DataContract:
    return load_contract(ROOT / "configs" / "contracts" / f"{name}.yaml")


def sizes(found: Mapping[str, MemberRows]) -> tuple[int, int]:
    return sum(len(x.train) for x in found.values()), sum(len(x.test) for x in found.values())


@real_data
@pytest.mark.real_data
def test_cmapss_has_twelve_operators() -> None:
    found = read_members(shipped("cmapss"), DATA)
    names = [f"FD00{subset}-{third}" for subset in range(1, 5) for third in range(3)]
    assert list(found) == names
    assert member_names(shipped("cmapss"), DATA) == tuple(names)
    rows = {"FD001": (20631, 13096), "FD002": (53759, 33991), "FD003": (24720, 16596)}
    engines = {"FD001": (100, 100), "FD002": (260, 259), "FD003": (100, 100), "FD004": (249, 248)}
    for subset, expected in engines.items():
        own = {k: v for k, v in found.items() if k.startswith(subset)}
        assert sizes(own) == (rows | {"FD004": (61249, 41214)})[subset]
        units: list[set[str]] = [set(), set()]
        for one in own.values():
            units[0] |= set(one.train["__unit"])
            units[1] |= set(one.test["__unit"])
        assert (len(units[0]), len(units[1])) == expected


@real_data
@pytest.mark.real_data
def test_cmapss_labels_end_where_the_file_says() -> None:
    found = read_members(shipped("cmapss"), DATA)
    ends: dict[str, float] = {}
    for one in found.values():
        assert one.train.groupby("__unit")["__y_raw"].min().eq(0).all()
        assert one.train["__y"].max() == 125
        last = one.test.groupby("__unit")["__y_raw"].min()
        ends |= {str(unit): float(life) for unit, life in last.items()}
    assert len(ends) == 707
    for subset in ("FD001", "FD002", "FD003", "FD004"):
        text = gzip.decompress((DATA / "cmapss" / f"RUL_{subset}.txt.gz").read_bytes()).decode()
        lives = [float(line) for line in text.split()]
        assert [ends[f"{subset}|{n + 1}"] for n in range(len(lives))] == lives


@real_data
@pytest.mark.real_data
def test_fremtpl2_has_twelve_insurers() -> None:
    found = read_members(shipped("fremtpl2"), DATA)
    assert len(found) == 12
    assert sizes(found) == (677_991 - 67_797, 67_797)
    parts = [part for one in found.values() for part in (one.train, one.test)]
    assert sum(part["__y_raw"].sum() for part in parts) == 26_444
    assert max(part["__y"].max() for part in parts) == 4
    assert max(part["__exposure"].max() for part in parts) == 1
    assert min(part["__exposure"].min() for part in parts) > 0
    assert {"Centre", "Rhone-Alpes", "Midi-Pyrenees", "others"} <= set(found)
    assert "Lorraine" not in found
    assert set(found["Centre"].train["Region"]) == {"Centre"}
    assert len(set(found["others"].train["Region"])) == 11
    assert not any((part["Region"] == "other").any() for part in parts)


@real_data
@pytest.mark.real_data
def test_uci_credit_has_twelve_bands_of_about_one_size() -> None:
    found = read_members(shipped("uci_credit"), DATA)
    assert len(found) == 12
    assert sizes(found) == (24_000, 6_000)
    parts = [part for one in found.values() for part in (one.train, one.test)]
    assert sum(part["__y"].sum() for part in parts) == 6_636
    for one in found.values():
        assert 1_900 < len(one.train) + len(one.test) < 3_100
    pay = pd.concat(parts)["PAY_0"]
    assert (pay == "-2").sum() == 2_759
    assert not (pay == "other").any()


@real_data
@pytest.mark.real_data
def test_the_fate_split_is_three_banks_of_one_size() -> None:
    found = read_members(shipped("uci_credit_fate"), DATA)
    assert {name: len(one.train) for name, one in found.items()} == {
        "guest": 8_000,
        "host_1": 8_000,
        "host_2": 8_000,
    }
    assert sizes(found)[1] == 6_000
    for place, name in enumerate(("guest", "host_1", "host_2")):
        assert set(found[name].test["__row"] % 3) == {place}


@real_data
@pytest.mark.real_data
def test_ai4i_has_three_plants_in_five_folds() -> None:
    tested: list[int] = []
    failures = 0.0
    for fold in range(5):
        found = read_members(shipped("ai4i"), DATA, fold=fold)
        assert list(found) == ["H", "L", "M"]
        assert sizes(found) == (8_000, 2_000)
        tested += rows_of(found, test=True)
        failures += sum(one.test["__y"].sum() for one in found.values())
        assert not {"TWF", "HDF", "PWF", "OSF", "RNF"} & set(found["H"].train.columns)
    assert sorted(tested) == list(range(10_000))
    assert failures == 339
