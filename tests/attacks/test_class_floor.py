"""A launcher whose rules are lax: each node holds its own contract's classes against the run."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support import tables
from support.direct import assemble

from clients.class_floor import class_refusals, keeping_refusals, noise_from
from clients.frozen import parse_yaml
from clients.node import Node
from clients.policy import NodePolicy
from clients.spec import parse_node_spec
from privacy.errors import RefusedError
from privacy.plan import PrivacyPlan

NOISE: dict[str, Any] = {"noise": "distributed", "epsilon": 8.0, "rate": 0.25}


def policy(text: str = "{}") -> NodePolicy:
    return parse_yaml(NodePolicy, text, "policy.yaml")


def classes(**changed: str) -> list[dict[str, Any]]:
    return [
        one | {"class": changed.get(one["name"], one["class"])} for one in tables.columns("binary")
    ]


def quiet(plan: PrivacyPlan, share: float) -> PrivacyPlan:
    return replace(
        plan,
        rate=1.0,
        update_share=share,
        statistics_share=share,
        watch_share=share,
        test_share=share,
    )


def refused(
    root: Path,
    *,
    terms: str = "{}",
    own_machine: bool = False,
    contract: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
    shares: float | None = None,
) -> str:
    """What the first node's people are told when it is invited; empty if the run is done.

    With `shares` each noise of the config's own plan is that, and each unit is in each step.
    """
    changes = {"training": {"rounds": 1}, **(config or {})}
    small = tables.write(root, contract_changes=contract, config_changes=changes)
    direct = assemble(small.config, small.root, policy=policy(terms))
    read: list[int] = []

    def rows(node: Node) -> Any:  # noqa: ANN401 - what a node reads
        def read_them(fold: int | None) -> Any:  # noqa: ANN401
            read.append(1)
            return node._settings.rows(fold)

        return read_them

    nodes = {
        place: Node(replace(node._settings, own_machine=own_machine, rows=rows(node)))
        for place, node in direct.nodes.items()
    }
    if shares is not None and direct.manifest.privacy is not None:
        manifest = {"privacy": quiet(direct.manifest.privacy, shares)}
    direct = replace(
        direct,
        nodes=nodes,
        transport=type(direct.transport)(nodes),
        manifest=replace(direct.manifest, **(manifest or {})),
    )
    try:
        direct.run()
    except RefusedError as refusal:
        assert not read  # nothing was read for a run that is refused
        return str(refusal)
    return ""


def test_noise_is_wanted_over_the_network_and_left_to_the_user_on_one_machine(
    tmp_path: Path,
) -> None:
    assert "adds no noise and reads columns of class L3" in refused(tmp_path / "a")
    assert refused(tmp_path / "b", own_machine=True) == ""
    assert refused(tmp_path / "c", terms="minimum_protection: {noise_from: none}") == ""


@pytest.mark.parametrize(
    ("terms", "own_machine"),
    [
        ("{}", False),
        ("minimum_protection: {noise_from: L3}", False),
        ("minimum_protection: {noise_from: L3}", True),
        ("{colluders: 0, budgets: [{epsilon: 1.0e+15}]}", False),
    ],
)
def test_noise_that_is_next_to_nothing_is_none(
    tmp_path: Path, terms: str, own_machine: bool
) -> None:
    asked: dict[str, Any] = {
        "config": {"privacy": NOISE},
        "terms": terms,
        "own_machine": own_machine,
    }
    assert refused(tmp_path / "a", **asked) == ""
    told = refused(tmp_path / "b", shares=2e-6, **asked)
    assert "adds too little noise for its columns of class L3 or above" in told
    assert "ask for a smaller privacy.epsilon" in told


def test_where_nobody_asks_for_noise_little_is_let_in(tmp_path: Path) -> None:
    some: dict[str, Any] = {"config": {"privacy": NOISE}, "shares": 2e-6}
    assert refused(tmp_path / "a", own_machine=True, **some) == ""
    assert refused(tmp_path / "b", terms="minimum_protection: {noise_from: none}", **some) == ""


def test_nothing_below_masked_passes_whatever_the_policy_lets_in(tmp_path: Path) -> None:
    terms = "{sums: [clear, ckks, masked], minimum_protection: {noise_from: none}}"
    told = refused(tmp_path, terms=terms, manifest={"protection": "clear"})
    assert "'clear' sums, which show single vectors" in told


def test_no_secret_column_is_read(tmp_path: Path) -> None:
    told = refused(tmp_path, own_machine=True, contract={"columns": classes(load="L4")})
    assert "columns of class L4: load" in told


@pytest.mark.parametrize(
    ("governance", "terms", "words"),
    [
        ({"purposes": ["claims"]}, "{}", "may serve claims alone"),
        ({"retention_days": 1, "collected": "2020-01-01"}, "{}", "kept until 2020-01-02"),
        ({"place": "CN"}, "place: DE", "lie in CN by their contract, and this node is in DE"),
    ],
)
def test_purpose_keeping_and_place_hold_at_the_node(
    tmp_path: Path, governance: dict[str, Any], terms: str, words: str
) -> None:
    told = refused(tmp_path, own_machine=True, terms=terms, contract={"governance": governance})
    assert words in told


def test_columns_that_a_run_leaves_out_do_not_count(tmp_path: Path) -> None:
    small = tables.write(tmp_path, contract_changes={"columns": classes(load="L4", label="L2")})
    direct = assemble(small.config, small.root)
    settings = dict(direct.manifest.node_settings)

    def told(without: list[str]) -> list[str]:
        spec = parse_node_spec(
            settings | {"features": {**settings.get("features", {}), "without": without}}
        )
        return class_refusals(direct.manifest, spec, policy(), direct.project.contract)

    assert any("L4" in one for one in told([]))
    assert told(["load", "amount"]) == []


def test_the_last_day_of_keeping_is_a_day_of_use(tmp_path: Path) -> None:
    governance = {"retention_days": 10, "collected": "2026-01-01"}
    small = tables.write(tmp_path, contract_changes={"governance": governance})
    contract = assemble(small.config, small.root).project.contract
    assert keeping_refusals(contract, date(2026, 1, 11)) == []
    assert len(keeping_refusals(contract, date(2026, 1, 12))) == 1


def test_an_explicit_bound_holds_everywhere() -> None:
    assert noise_from(policy(), own_machine=False) == "L3"
    assert noise_from(policy(), own_machine=True) is None
    bound = policy("minimum_protection: {noise_from: L2}")
    assert noise_from(bound, own_machine=True) == noise_from(bound, own_machine=False) == "L2"
