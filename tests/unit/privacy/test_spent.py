"""What runs cost the units that they were about, from receipts alone."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from privacy.accounting.event import event_of, merged, solo_event_of
from privacy.accounting.rdp import epsilon
from privacy.ledger.grammar import Run
from privacy.receipt import Receipt
from privacy.spent import Spent, spent

KEYS = {"bank": b"b" * 32, "mill": b"m" * 32}
BOTH = tuple(KEYS)
UPDATE = Receipt(
    kind="update", unit="device", cohort="training", mechanism="gaussian", share=2.0, clip=1.0,
    sampling="poisson", rate=0.25, steps=3, shares=4, values=10, grid=0.0, purpose="round 1",
)  # fmt: skip
STATISTICS = replace(
    UPDATE, kind="statistics", mechanism="discrete_gaussian", sampling="none", rate=1.0, steps=1,
    share=5.0, grid=0.01,
)  # fmt: skip
EXACT = replace(
    UPDATE, mechanism="none", share=0.0, clip=0.0, sampling="none", rate=1.0, cohort="test"
)


def run_of(
    *told: tuple[tuple[str, ...], Receipt],
    dataset: str = "machines",
    keys: Mapping[str, bytes] = KEYS,
    plan: tuple[int, float] | None = None,
) -> Run:
    """As much of a run as its cost follows from."""
    privacy = None if plan is None else SimpleNamespace(colluders=plan[0], delta=plan[1])
    agreed = SimpleNamespace(privacy=privacy)
    return cast("Run", SimpleNamespace(dataset=dataset, keys=keys, agreed=agreed, spent=told))


def cost(*receipts: Receipt, colluders: int = 0, delta: float = 1e-5) -> tuple[float, float]:
    """Both epsilons, composed of the receipts one after the other."""
    together = merged(event_of(one, colluders=colluders) for one in receipts)
    alone = merged(solo_event_of(one) for one in receipts)
    return epsilon(together, delta)[0], epsilon(alone, delta)[0]


def test_runs_that_told_nothing_cost_nothing() -> None:
    assert spent([]) == spent([run_of(plan=(2, 1e-6))]) == ()


def test_what_was_told_of_a_member_adds_up_over_runs_and_the_worst_stands_for_all() -> None:
    runs = [run_of((BOTH, UPDATE), (("mill",), STATISTICS)), run_of((BOTH, UPDATE))]
    both = cost(UPDATE, STATISTICS, UPDATE)
    assert both[1] > both[0] > cost(UPDATE, UPDATE)[0]
    assert spent(runs) == (
        Spent("machines", "device", "training", "mill", 3, *both, colluders=0, delta=1e-5),
    )


def test_the_most_colluders_and_the_smallest_delta_of_any_plan_count_for_all_runs() -> None:
    runs = [run_of((BOTH, UPDATE), plan=(1, 1e-7)), run_of(plan=(2, 1e-6)), run_of()]
    (found,) = spent(runs)
    assert (found.colluders, found.delta) == (2, 1e-7)
    assert (found.epsilon, found.solo_epsilon) == cost(UPDATE, colluders=2, delta=1e-7)
    assert found.member == "bank"  # of two who paid the same: the first by name
    (one,) = spent([run_of((("mill", "bank"), UPDATE), plan=(0, 1e-4))])
    assert (one.member, one.colluders, one.delta) == ("bank", 0, 1e-4)


def test_data_sets_units_and_cohorts_are_apart_and_in_order() -> None:
    every = replace(UPDATE, cohort="all")
    person = replace(UPDATE, unit="borrower")
    found = spent([run_of((BOTH, every), (BOTH, person)), run_of((BOTH, UPDATE), dataset="loans")])
    assert [(one.dataset, one.unit, one.cohort, one.releases) for one in found] == [
        ("loans", "device", "training", 1),
        ("machines", "borrower", "training", 1),
        ("machines", "device", "test", 1),
        ("machines", "device", "training", 1),
    ]


def test_what_was_released_without_noise_has_no_bound() -> None:
    (found,) = spent([run_of((("mill",), EXACT), (BOTH, replace(UPDATE, cohort="test")))])
    assert (found.member, found.releases) == ("mill", 2)
    assert found.epsilon is None
    assert found.solo_epsilon is None


def test_whoever_changes_its_key_has_the_same_rows_and_one_name_is_no_proof_of_that() -> None:
    new = {**KEYS, "mill": b"n" * 32}
    runs = [run_of((("mill",), UPDATE)), run_of((("mill",), UPDATE), keys=new)]
    (apart,) = spent(runs)
    assert (apart.releases, apart.epsilon, apart.solo_epsilon) == (1, *cost(UPDATE))
    (one,) = spent(runs, {new["mill"]: KEYS["mill"]})
    assert (one.releases, one.epsilon, one.solo_epsilon) == (2, *cost(UPDATE, UPDATE))
    (other,) = spent(runs, {b"x" * 32: KEYS["mill"]})
    assert other == apart
