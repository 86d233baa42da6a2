"""The experiments with attacks end with exit code 1 where a figure says that something is broken.

Their figures are in `result.json`; what each must say is in `thresholds.py` beside it.
"""

import importlib.util
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
Loose: TypeAlias = Any  # a result, as JSON has it
Spoil = Callable[[Loose], None]


def faults_of(name: str, result: Loose) -> list[str]:
    path = EXPERIMENTS / name / "thresholds.py"
    spec = importlib.util.spec_from_file_location(f"{name}_thresholds", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.faults(result)
    assert isinstance(found, list)
    return found


def result_of(name: str) -> Loose:
    return json.loads((EXPERIMENTS / name / "result.json").read_text("utf-8"))


def case(result: Loose, members: int, rows: int, *, noise: bool) -> Loose:
    return next(
        one["recovered"]
        for one in result["cases"]
        if (one["members"], one["rows_each"], one["noise"]) == (members, rows, noise)
    )


def summed(result: Loose, mode: str, attack: str, hostile: int) -> Loose:
    return next(
        one
        for one in result["summary"]
        if (one["data"], one["mode"], one["attack"], one["hostile"])
        == ("cmapss", mode, attack, hostile)
    )


def _rows_behind_noise(result: Loose) -> None:
    case(result, 12, 16, noise=True)["by ratio"][0] = 0.01


def _rows_of_a_large_sum(result: Loose) -> None:
    case(result, 12, 16, noise=False)["by ratio"][0] = 0.05


def _an_inversion_that_finds_nothing(result: Loose) -> None:
    case(result, 1, 1, noise=False)["by ratio"][0] = 0.0


def _more_than_is_proven(result: Loose) -> None:
    result["dummy"][0]["lower"][0] = 1.2


def _half_the_noise_unfound(result: Loose) -> None:
    for one in result["dummy"]:
        if one["noise"] == 0.5:
            one["lower_gaussian"] = [0.1]


def _members_told_apart(result: Loose) -> None:
    result["lira"][1]["auc"] = 0.6


def _better_than_the_best_attack(result: Loose) -> None:
    result["lira"][2]["rate"] = 0.04


def _a_lira_that_finds_nothing(result: Loose) -> None:
    result["lira"][0]["auc"] = 0.51


def _rows_in_an_imprint(result: Loose) -> None:
    result["imprint"][1]["epsilon 8"] = 1


def _one_that_scales_in_groups(result: Loose) -> None:
    summed(result, "groups", "scaling", 1)["honest"][0] = 40.0


def _a_run_in_groups_that_stopped(result: Loose) -> None:
    summed(result, "groups", "label flip", 1)["honest"][1] = None


def _groups_that_cost_much(result: Loose) -> None:
    summed(result, "groups", "none", 0)["honest"][0] = 16.0


def _a_scaling_that_does_nothing(result: Loose) -> None:
    summed(result, "plain", "scaling", 1)["honest"][0] = 14.0


def _rollback_that_does_nothing(result: Loose) -> None:
    late = "scaling from half-way"
    summed(result, "rollback", late, 1)["honest"] = [90.0, 90.0]


SPOILT: dict[Spoil, tuple[str, str]] = {
    _rows_behind_noise: ("gradient_inversion", "with noise: 1% of the rows"),
    _rows_of_a_large_sum: ("gradient_inversion", "5% of the rows were found in the sum"),
    _an_inversion_that_finds_nothing: ("gradient_inversion", "so it shows nothing"),
    _more_than_is_proven: ("privacy_audit", "show epsilon 1.20 where 1.00 is proven"),
    _half_the_noise_unfound: ("privacy_audit", "half of the claimed noise is not found"),
    _members_told_apart: ("privacy_audit", "lira: AUC 0.600 at epsilon 8"),
    _better_than_the_best_attack: ("privacy_audit", "0.040 are found, and 0.020 is proven"),
    _a_lira_that_finds_nothing: ("privacy_audit", "so it shows nothing"),
    _rows_in_an_imprint: ("privacy_audit", "1 rows are read off"),
    _one_that_scales_in_groups: ("robustness", "scaling by one costs a run in groups"),
    _a_run_in_groups_that_stopped: ("robustness", "label flip by one costs a run in groups inf"),
    _groups_that_cost_much: ("robustness", "groups cost 2"),
    _a_scaling_that_does_nothing: ("robustness", "so it shows nothing"),
    _rollback_that_does_nothing: ("robustness", "undone rounds do not help"),
}


@pytest.mark.parametrize("name", ["gradient_inversion", "privacy_audit", "robustness"])
def test_what_was_measured_is_within_the_thresholds(name: str) -> None:
    assert faults_of(name, result_of(name)) == []


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__.removeprefix("_"))
def test_a_figure_beyond_a_threshold_is_said(spoil: Spoil) -> None:
    name, sentence = SPOILT[spoil]
    result = deepcopy(result_of(name))
    spoil(result)
    (fault,) = faults_of(name, result)
    assert sentence in fault
