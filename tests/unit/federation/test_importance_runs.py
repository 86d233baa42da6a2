"""Runs that sum what their model leans on: what is opened, of whom, and what is shown of it."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from support import tables
from support.asked import asked
from support.direct import Direct, assemble
from support.sums import federation

from clients.importance import Importance
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector
from clients.model_file import load_model
from clients.node import Node
from clients.policy import NodePolicy, refusals
from clients.spec import parse_node_spec
from federation.config import load_project
from federation.decisions import NodeDecisions, waiting
from federation.importance_shown import (
    FIRST,
    ImportanceFacts,
    importance_sentence,
    kept_importance,
    outcome_of,
)
from federation.node_status import pending_table
from federation.record import read_importance, read_opened, read_sums
from privacy.errors import InputError, RefusedError
from privacy.fixed_point import wide
from privacy.ledger.sqlite import SqliteLedger
from privacy.manifest import PROTECTIONS, Protection
from privacy.messages import EvaluateRequest, SumNotice
from privacy.tally import TALLY_CLIP

FOUR = ("bank", "east", "mill", "north")
ANY = NodePolicy(sums=PROTECTIONS)
TEST = "evaluate test"


def asking(folder: Path, members: tuple[str, ...] = FOUR, **changes: Any) -> Direct:  # noqa: ANN401
    """A run of tiny members that is asked what its model leans on."""
    training = {"rounds": 1, "batch_rows": 32, "learning_rate": 0.02}
    return federation(
        folder, members, policy=ANY, explain=True, **{"training": training, **changes}
    )


def opened(direct: Direct, member: str) -> Importance | None:
    return read_importance(
        direct._folder(member) / "sums.jsonl",
        step=TEST,
        round_index=direct.project.config.training.rounds,
    )


def expected(direct: Direct, members: tuple[str, ...]) -> tuple[int, np.ndarray, float]:
    """Rows, mean sizes, and what rounding may do to one: over the pooled test rows of `members`."""
    contract = direct.project.contract
    spec = parse_node_spec(dict(direct.manifest.node_settings))
    learner = Learner(contract, spec, "cpu")
    rows = read_members(contract, direct.project.config_path.parent)
    folder = direct._folder(members[0])
    from clients.model_file import opened_model, parse_model
    from clients.vault_folder import folder_vault
    from privacy.randomness import system_bytes

    vault = folder_vault(folder.parent.parent, "L3", system_bytes)
    data = opened_model(folder / "model.safetensors", direct.manifest.run, vault)
    tensors, _ = parse_model(data, str(folder))
    released = [tensors["statistics.0"]]
    learner.start(released)
    from_vector(learner.network, tensors["model"])
    pooled = learner.scaled(pd.concat([rows[one].test for one in members], ignore_index=True))
    told = learner.importance(pooled, released)
    scale = learner.target.own_scale[0]
    step = wide(len(direct.nodes), clip=TALLY_CLIP).worst_error(len(members))
    return int(told[1]), told[2:] / told[1] * scale, step / told[1] * scale


def agree(found: Importance | None, direct: Direct, members: tuple[str, ...]) -> None:
    assert found is not None
    rows, means, quantum = expected(direct, members)
    assert (found.members, found.rows) == (len(members), rows)
    order = dict(zip(found.inputs, found.amounts, strict=True))
    inputs = ("load", "amount", "code")
    # the quantum of the sum, and the rounding of float64 in another order of adding up
    np.testing.assert_allclose([order[i] for i in inputs], means, atol=quantum, rtol=1e-9)
    assert quantum < 1e-5


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_what_is_opened_is_what_all_rows_in_one_place_would_say(
    tmp_path: Path, protection: Protection
) -> None:
    direct = asking(tmp_path, protection={"sum": protection})
    metrics = direct.run().metrics
    for member in FOUR:
        agree(opened(direct, member), direct, FOUR)
    # the evaluation itself is what it was
    assert metrics["rows"] == expected(direct, FOUR)[0]
    assert 0 <= metrics["auc"] <= 1
    assert direct.verdict().unfinished == ()


def test_validations_and_fine_tuned_tests_are_not_asked(tmp_path: Path) -> None:
    direct = asking(tmp_path, personal={"epochs": 1}, validation_share=0.3)
    direct.run()
    path = direct._folder("bank") / "sums.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert {one["step"] for one in lines if "importance" in one} == {TEST}
    assert ("evaluate personal", 1) in read_sums(path)


def test_a_member_that_drops_out_leaves_the_sum_of_the_others(tmp_path: Path) -> None:
    direct = asking(tmp_path)
    direct.transport.away = lambda member, request, after: (
        member == "mill"
        and isinstance(request, EvaluateRequest | SumNotice)
        and (isinstance(request, SumNotice) or request.part == "test")
        and getattr(request, "step", TEST) == TEST
        and not after
    )
    direct.run()
    agree(opened(direct, "bank"), direct, ("bank", "east", "north"))


def test_a_large_member_counts_for_no_more_rows_than_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.importance_tally.ROWS_MAX", 5)
    direct = asking(tmp_path)
    direct.run()
    found = opened(direct, "bank")
    assert found is not None
    assert found.rows == 5 * len(FOUR)


def test_too_few_members_with_rows_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum of four in which two have rows would show each of them to the other."""
    whole = Learner.importance
    asked_for: list[int] = []

    def some(self: Learner, rows: pd.DataFrame, released: Any) -> np.ndarray:  # noqa: ANN401
        asked_for.append(len(rows))
        return whole(self, rows if len(asked_for) <= 2 else rows.iloc[:0], released)

    monkeypatch.setattr(Learner, "importance", some)
    direct = asking(tmp_path)
    outcome = direct.run()
    assert len(asked_for) == 4
    assert outcome.metrics["rows"] > 40
    assert opened(direct, "bank") is None


def planted(folder: Path, **changes: Any) -> Direct:  # noqa: ANN401 - any key of a config
    """A table whose label follows `load` and little else; `code` was drawn without a look at it."""
    rng = np.random.default_rng(5)
    frame = tables.table("binary", rows=900, seed=5)
    load = frame["load"].fillna(0.5)
    amount = (np.log(frame["amount"]) - 8) / 1.5
    chance = 1 / (1 + np.exp(-(10 * (load - 0.5) + 0.7 * amount)))
    frame["label"] = (rng.uniform(size=len(frame)) < chance).astype(int)
    frame["member"] = [FOUR[i % 4] for i in range(len(frame))]
    training = {"rounds": 4, "local_epochs": 4, "batch_rows": 32, "learning_rate": 0.03}
    config = {"explain": True, "training": training, "features": {"rare_below": 5}, **changes}
    return assemble(tables.write(folder, rows=frame, config_changes=config).config, folder)


@pytest.mark.parametrize("hidden", [[], [6]])
def test_what_was_planted_comes_first_and_what_says_nothing_last(
    tmp_path: Path, hidden: list[int]
) -> None:
    direct = planted(tmp_path, model={"hidden": hidden})
    direct.run()
    found = opened(direct, "bank")
    assert found is not None
    # as they are kept: those that matter most first
    assert found.inputs == ("load", "amount", "code")
    assert found.shares[0] > 0.6
    assert found.shares[2] < 0.1


# -- what a run may ask


def test_noise_and_importance_are_refused_where_a_config_is_read(tmp_path: Path) -> None:
    where = tables.write(
        tmp_path,
        config_changes={
            "explain": True, "privacy": {"epsilon": 8.0}, "training": {"rounds": 1},
            "server": {"kind": "fedavgm"},
        },
    )  # fmt: skip
    with pytest.raises(InputError, match="explain: sums what no noise covers"):
        load_project(where.config)


def test_a_node_refuses_noise_and_importance_before_it_reads_a_row(tmp_path: Path) -> None:
    changes = {"privacy": {"multiplier": 1.0, "rate": 0.5}, "training": {"rounds": 1},
               "server": {"kind": "fedavgm"}, "validation_share": 0.0}  # fmt: skip
    where = tables.write(tmp_path, config_changes=changes)
    direct = assemble(where.config, tmp_path)
    settings = {**direct.manifest.node_settings, "explain": True}
    with pytest.raises(RefusedError, match="explain sums what no noise covers"):
        replace(direct, manifest=replace(direct.manifest, node_settings=settings)).run()


def test_a_node_may_refuse_to_be_asked(tmp_path: Path) -> None:
    direct = federation(tmp_path, FOUR, explain=True, policy=NodePolicy(explains=False))
    said = refusals(direct.manifest, NodePolicy(explains=False), direct.project.contract)
    assert any("leave explain out" in one for one in said)
    with pytest.raises(RefusedError, match="leave explain out"):
        direct.run()
    plain = federation(tmp_path / "plain", FOUR)
    assert refusals(plain.manifest, NodePolicy(explains=False), plain.project.contract) == []


def test_a_run_that_does_not_ask_is_asked_for_in_the_words_of_before(tmp_path: Path) -> None:
    plain = load_project(tables.write(tmp_path).config)
    assert "explain" not in plain.config.node_settings(seed=0, fold=None)
    asks = load_project(tables.write(tmp_path, config_changes={"explain": True}).config)
    assert asks.config.node_settings(seed=0, fold=None)["explain"] is True


def test_a_person_who_decides_sees_that_it_is_asked(tmp_path: Path) -> None:
    decisions = NodeDecisions(tmp_path, SqliteLedger(tmp_path / "ledger.db"))
    decisions.wait(asked(node_settings={"explain": True}), "Bank A", on="person", why="Decide.")
    (one,) = waiting(tmp_path)
    assert one.explain
    assert one.to_json()["explain"] is True
    console = Console(file=io.StringIO(), width=120)
    console.print(pending_table((one, replace(one, explain=False)), now_ms=0))
    shown = console.file.getvalue()  # type: ignore[attr-defined] # it is a StringIO
    assert shown.count("what the model leans on") == 1
    # a file of a version that knew no such runs
    path = next((tmp_path / "pending").iterdir())
    kept = json.loads(path.read_text())
    del kept["explain"]
    path.write_text(json.dumps(kept))
    assert not waiting(tmp_path)[0].explain


# -- what is kept and shown


def test_the_opened_test_sum_is_kept_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "_model_vault", lambda *_: None)
    direct = asking(tmp_path)
    direct.run()
    found = read_opened(direct._folder("bank") / "sums.jsonl", step=TEST, round_index=1)
    assert found is not None
    spec = parse_node_spec(dict(direct.manifest.node_settings))
    learner = Learner(direct.project.contract, spec, "cpu")
    assert len(found.total) == learner.evaluation_length
    assert load_model(direct._folder("bank") / "model.safetensors").size


ONE = Importance(members=4, rows=80, inputs=("a", "b", "c", "d"), amounts=(0.1, 0.6, 0.0, 0.3))


def test_a_result_says_all_folds_together_and_each() -> None:
    assert outcome_of([None]) == {}
    (alone,) = outcome_of([ONE]).values()
    assert alone == ONE.to_json()
    found = outcome_of([ONE, None, replace(ONE, rows=20)])
    assert found["importance"]["rows"] == 100
    assert [one and one["rows"] for one in found["importance_folds"]] == [80, None, 20]


def test_a_summary_names_the_first_and_a_damaged_result_is_told(tmp_path: Path) -> None:
    sentence = importance_sentence(ONE.to_json())
    assert sentence.startswith("b 60%, d 30%, a 10%, over 80 test rows of 4 members")
    assert sentence.count("%") == FIRST
    assert kept_importance(tmp_path) is None
    (tmp_path / "result.json").write_text(json.dumps({"importance": ONE.to_json(), "run": "r"}))
    facts = kept_importance(tmp_path)
    assert isinstance(facts, ImportanceFacts)
    assert facts.inputs[0].input == "b"
    (tmp_path / "result.json").write_text(json.dumps({"importance": {"rows": "many"}}))
    with pytest.raises(InputError, match="importance"):
        kept_importance(tmp_path)
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({"step": TEST, "round": 1, "importance": {"rows": 3}}) + "\n")
    with pytest.raises(InputError, match="is damaged"):
        read_importance(path, step=TEST, round_index=1)
