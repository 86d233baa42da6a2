"""What members compute alike of opened sums: bounds, medians, steps, and the way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import common_model
from clients.common_model import CommonModel, after_round, after_watch, mean_change, start
from clients.spec import NodeSpec, parse_node_spec
from privacy.errors import ProtocolError
from privacy.fixed_point import narrow
from privacy.messages import vector_digest
from privacy.randomness import system_bytes

CLIP = 0.5
LENGTH = 40
LAYOUT = narrow(12, CLIP)


def spec(**changes: object) -> NodeSpec:
    settings = {
        "task": "credit",
        "seed": 0,
        "model": {"hidden": [4]},
        "training": {"rounds": 9},
        "update": {"clip": CLIP},
    }
    return parse_node_spec({**settings, **changes})


def opened(changes: list[np.ndarray], weights: list[float]) -> tuple[np.ndarray, int]:
    """A sum as members open it, through the real rounding."""
    total = np.zeros(LAYOUT.words(LENGTH + 1), dtype=np.uint64)
    for change, weight in zip(changes, weights, strict=True):
        values = np.append(change * weight, weight * CLIP)
        total += LAYOUT.encode(values, system_bytes)
    return LAYOUT.decode_sum(total, LENGTH + 1, len(changes)), len(changes)


def test_one_sum_gives_the_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    changes = [rng.uniform(-CLIP, CLIP, LENGTH) for _ in range(4)]
    weights = [0.1, 0.4, 1.0, 0.25]
    mean = mean_change([opened(changes, weights)], spec(), LAYOUT, 1)
    expected = np.average(changes, axis=0, weights=weights)
    np.testing.assert_allclose(mean, expected, atol=LAYOUT.worst_error(4) * 3)


@pytest.mark.parametrize("hostile", [1])
def test_a_hostile_group_of_four_moves_no_coordinate_beyond_the_others(hostile: int) -> None:
    rng = np.random.default_rng(1)
    honest = [rng.uniform(-0.1, 0.1, LENGTH) for _ in range(3)]
    groups = [opened([change] * 3, [1.0] * 3) for change in honest]
    groups += [opened([np.full(LENGTH, CLIP)] * 3, [1.0] * 3) for _ in range(hostile)]
    mean = mean_change(groups, spec(), LAYOUT, 4)
    slack = LAYOUT.worst_error(3)
    assert (mean <= np.max(honest, axis=0) + slack).all()
    assert (mean >= np.min(honest, axis=0) - slack).all()
    # the twin: one sum of all is moved
    everybody = opened([*honest, np.full(LENGTH, CLIP)], [1.0] * 4)
    plain = mean_change([everybody], spec(), LAYOUT, 1)
    assert (plain > np.max(honest, axis=0)).any()


@given(st.integers(0, 2**32 - 1), st.integers(3, 9))
def test_fewer_than_half_of_the_groups_stay_within_the_others_range(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    hostile = int(rng.integers(0, (groups + 1) // 2))
    honest = [rng.uniform(-0.2, 0.2, LENGTH) for _ in range(groups - hostile)]
    wrong = [rng.choice([-CLIP, CLIP], LENGTH) for _ in range(hostile)]
    sums = [opened([change] * 3, [0.5] * 3) for change in (*honest, *wrong)]
    mean = mean_change(sums, spec(), LAYOUT, groups)
    slack = 2 * LAYOUT.worst_error(3)
    assert (mean <= np.max(honest, axis=0) + slack).all()
    assert (mean >= np.min(honest, axis=0) - slack).all()


def test_too_few_groups_make_no_median() -> None:
    one = opened([np.zeros(LENGTH)] * 3, [1.0] * 3)
    for groups in (4, 5):
        with pytest.raises(ProtocolError, match=f"Too few of {groups} groups"):
            mean_change([one, one], spec(), LAYOUT, groups)
    assert not mean_change([one] * 3, spec(), LAYOUT, 4).any()


@pytest.mark.parametrize("weight", [0.0, 1e-9, -1.0, 3.5])
def test_weights_that_no_members_can_have_are_refused(weight: float) -> None:
    total = np.zeros(LENGTH + 1)
    total[-1] = weight * CLIP
    with pytest.raises(ProtocolError, match="weights are out of range"):
        mean_change([(total, 3)], spec(), LAYOUT, 1)


def test_a_mean_beyond_the_clip_is_refused() -> None:
    total = np.zeros(LENGTH + 1)
    total[-1], total[3] = CLIP, 1.2 * CLIP
    with pytest.raises(ProtocolError, match="beyond every member's clip"):
        mean_change([(total, 3)], spec(), LAYOUT, 1)


def test_a_mean_longer_than_any_change_is_refused() -> None:
    bounded = spec(update={"clip": CLIP, "clip_l2": 0.5})
    total = np.full(LENGTH + 1, 0.2)
    total[-1] = CLIP
    with pytest.raises(ProtocolError, match="longer than any member's change"):
        mean_change([(total, 3)], bounded, LAYOUT, 1)
    assert mean_change([(total, 3)], spec(), LAYOUT, 1)[0] == pytest.approx(0.2)


def test_the_same_sums_give_the_same_bytes() -> None:
    rng = np.random.default_rng(5)
    initial = rng.normal(size=LENGTH).astype(np.float32)
    sums = [opened([rng.uniform(-0.1, 0.1, LENGTH)] * 3, [1.0] * 3) for _ in range(6)]
    for server in ("fedavg", "fedavgm", "fedadam"):
        settings = spec(server={"kind": server}, average_last=3)
        digests = set()
        for _ in range(2):
            model = start(initial)
            for one in sums:
                model = after_round(model, mean_change([one], settings, LAYOUT, 1), settings)
            digests.add((vector_digest(model.current), vector_digest(model.average)))
        assert len(digests) == 1


def walked(losses: list[float], rollback: float | None) -> tuple[CommonModel, list[bool]]:
    """Rounds of one step each, watched with these losses."""
    settings = spec(rollback=rollback, average_last=2, server={"kind": "fedavgm"})
    model = start(np.zeros(LENGTH, dtype=np.float32))
    kept: list[bool] = []
    for loss in losses:
        model = after_round(model, np.full(LENGTH, 0.1), settings)
        model, good = after_watch(model, loss, settings)
        kept.append(good)
    return model, kept


def test_a_round_that_makes_it_worse_is_undone_with_all_that_it_changed() -> None:
    straight, _ = walked([1.0, 0.9], 0.1)
    model, kept = walked([1.0, 0.9, 2.0], 0.1)
    assert kept == [True, True, False]
    assert model.undone == 1
    np.testing.assert_array_equal(model.current, straight.current)
    np.testing.assert_array_equal(model.average, straight.average)
    np.testing.assert_array_equal(model.state.first, straight.state.first)
    assert model.best == 0.9


def test_a_little_worse_is_kept_and_the_best_is_remembered() -> None:
    model, kept = walked([1.0, 1.05, 1.09, 1.11], 0.1)
    assert kept == [True, True, True, False]
    assert model.best == 1.0


def test_a_loss_that_is_no_number_counts_as_worse_than_any() -> None:
    assert walked([float("nan")], 0.1)[1] == [False]
    assert walked([1.0, float("inf")], 0.1)[1] == [True, False]


def test_negative_losses_are_measured_by_their_size() -> None:
    # an AUC of 0.8 is a loss of -0.8
    assert walked([-0.8, -0.75], 0.1)[1] == [True, True]
    assert walked([-0.8, -0.7], 0.1)[1] == [True, False]


def test_without_the_rule_nothing_is_undone() -> None:
    assert walked([1.0, 9.0, float("nan")], None)[1] == [True, True, True]


def test_a_model_that_is_no_longer_finite_is_refused() -> None:
    model = start(np.full(LENGTH, 3e38, dtype=np.float32))
    change = np.full(LENGTH, 1e38)
    with pytest.raises(ProtocolError, match="no longer finite"):
        after_round(model, change, spec())
    assert common_model.FEWEST_GROUPS == 3
