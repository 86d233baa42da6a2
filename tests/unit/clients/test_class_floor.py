"""How much noise counts as noise: at the floor, and what moves the figure and what does not."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.asked import PLAN, SPEC, asked

from clients.class_floor import MOST_DELTA, MOST_EPSILON, has_noise, planned_epsilon
from clients.policy import NodePolicy
from clients.spec import parse_node_spec
from federation.config import load_project
from privacy.accounting.event import Event
from privacy.accounting.rdp import epsilon
from privacy.manifest import Manifest

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(
    [
        *ROOT.glob("configs/*_private.yaml"),
        *ROOT.glob("experiments/privacy_utility/*_private_local.yaml"),
    ]
)
ROUNDS = SPEC["training"]["rounds"]


def run(*, update_share: float = 2.0, protection: str = "masked", **changed: Any) -> Manifest:  # noqa: ANN401 - any field
    """A run whose units are in each step; all that is no update has noise in abundance."""
    plan = replace(PLAN, rate=1.0, update_share=update_share)
    plan = replace(plan, statistics_share=1e6, watch_share=1e6, test_share=1e6)
    return asked(privacy=replace(plan, **changed), protection=protection)


def cost(manifest: Manifest, **terms: Any) -> float:  # noqa: ANN401 - any term
    spec = parse_node_spec(dict(manifest.node_settings))
    return planned_epsilon(manifest, spec, NodePolicy(**terms))


def enough(manifest: Manifest) -> bool:
    spec = parse_node_spec(dict(manifest.node_settings))
    return has_noise(manifest, spec, NodePolicy())


def share_at_the_floor() -> float:
    """The smallest share that counts, from the accountant alone: one share of three is unknown."""
    few, many = 0.01, 100.0
    while math.nextafter(few, math.inf) < many:
        share = (few + many) / 2
        found = epsilon([Event(share, steps=ROUNDS), Event(1e6)], MOST_DELTA)[0]
        few, many = (few, share) if found <= MOST_EPSILON else (share, many)
    return many


def test_at_the_floor_noise_counts_and_just_below_it_does_not() -> None:
    share = share_at_the_floor()
    assert 0.5 < share < 2.0
    for least, counts in ((share, True), (share * (1 + 1e-9), True), (share * (1 - 1e-9), False)):
        manifest = run(update_share=least)
        assert cost(manifest) == pytest.approx(MOST_EPSILON, rel=1e-6)
        assert enough(manifest) is counts


def test_a_run_without_noise_has_none() -> None:
    assert cost(asked(privacy=None)) == math.inf
    assert not enough(asked(privacy=None))


@pytest.mark.parametrize("name", ["update_share", "statistics_share", "watch_share", "test_share"])
def test_each_release_counts(name: str) -> None:
    # units in the test part are others: the dearer part of both counts
    little: dict[str, Any] = {"watches": 1, name: 2e-6}
    manifest = run(**little)
    assert cost(manifest) > 1e9
    assert not enough(manifest)


def test_what_a_launcher_names_makes_no_run_cheaper() -> None:
    usual = cost(run())
    assert cost(run(delta=0.99)) == usual
    assert cost(run(delta=1e-12)) == usual
    # with two colluders by this node's policy, one of three shares is unknown
    assert cost(run(colluders=0)) == cost(run(colluders=2)) == usual
    assert cost(run(colluders=0), colluders=0) < cost(run(colluders=1), colluders=0) < usual
    # a step that draws next to nobody still has what it takes of those whom it draws
    assert not enough(run(update_share=2e-6, rate=2e-6))
    # where single vectors show, a member's own share is all
    assert cost(run(colluders=0, protection="clear"), colluders=0) == usual


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_runs_are_well_below_the_floor(path: Path) -> None:
    project = load_project(path)
    config = project.config
    manifest = asked(
        privacy=project.privacy_plan(),
        protection=config.protection.sum,
        minimum_cohort=config.minimum_cohort,
        node_settings=config.node_settings(seed=0, fold=project.folds[0]),
    )
    assert cost(manifest) < MOST_EPSILON / 4
