"""On real data, where it is at hand: the federation beats each member alone.

Short forms of the configs, so that they fit a test run; full results are in experiments/real_data.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import ROOT, tacit

DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
BASELINES = "--baselines"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not at hand"),
]


def _launch(
    tmp_path: Path,
    config: str,
    training: dict[str, Any],
    *besides: str,
    **changes: int,
) -> dict[str, Any]:
    text = yaml.safe_load((ROOT / "configs" / f"{config}.yaml").read_text())
    text["training"] |= training
    text |= changes
    text["contract"] = str(ROOT / "configs" / text["contract"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(text))
    found = tacit(
        "run", "launch", str(path), "--local", "--json", "--data", str(DATA), *besides,
        home=tmp_path / "home", timeout_s=1200,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def test_turbofan_operators_gain(tmp_path: Path) -> None:
    result = _launch(
        tmp_path, "failure_cmapss", {"rounds": 15}, BASELINES, average_last=4, watch_every=15
    )
    federated = result["metrics"]
    alone = result["baselines"]["local_only"]["metrics"]
    assert federated["rows"] == 707
    assert federated["rmse_cap"] < 14.5
    assert federated["rmse_cap"] < alone["rmse_cap"] - 0.3
    groups = {name.split(".")[1] for name in federated if name.startswith("rmse_cap.")}
    assert groups == {"FD001", "FD002", "FD003", "FD004"}


def test_lenders_gain(tmp_path: Path) -> None:
    result = _launch(
        tmp_path, "credit_uci", {"rounds": 15}, BASELINES, average_last=5, watch_every=15
    )
    alone = result["baselines"]["local_only"]
    assert result["metrics"]["rows"] == 6000
    assert result["metrics"]["auc"] >= 0.768
    assert result["metrics"]["auc"] > alone["metrics"]["auc"] + 0.01
    headline = [
        result["by_member"][m]["auc"] - alone["by_member"][m]["auc"] for m in result["members"]
    ]
    # a band has about 500 test rows: two standard errors of its AUC are 0.05
    assert min(headline) > -0.05
    assert sum(gain > 0 for gain in headline) >= 9


def test_plants_reach_the_published_range(tmp_path: Path) -> None:
    # five folds; what members reach alone is not looked at here, so it is not trained
    result = _launch(tmp_path, "failure_ai4i", {"rounds": 20}, watch_every=20)
    assert result["metrics"]["auc"] >= 0.95
    assert sum(fold["rows"] for fold in result["folds"]) == 10_000


def test_lenders_gain_although_no_borrower_shows(tmp_path: Path) -> None:
    result = _launch(tmp_path, "credit_uci_private", {"rounds": 60}, BASELINES, average_last=40)
    privacy = result["privacy"]
    assert privacy["unit"] == "borrower"
    assert 0.98 < privacy["epsilon"] <= 1.0
    assert privacy["epsilon"] < privacy["solo_epsilon"] < 6
    assert privacy["audit"]["epsilon_lower"] < privacy["audit"]["epsilon_claimed"] < 1.0
    # a private evaluation of 6,000 borrowers is off by 0.004 (one deviation), and with training's
    # own noise by 0.005 around 0.759: this is five deviations below; members who know their own
    # rows need no noise, and their model alone had none
    assert result["metrics"]["auc"] > 0.734
    alone = result["baselines"]["local_only"]
    gained = [
        result["by_member"][member]["auc"] - alone["by_member"][member]["auc"]
        for member in result["members"]
    ]
    # six runs: 9 to 11 of 12 gain, and 0.022 to 0.024 in the mean; the ninth by 0.015 with a
    # deviation of 0.003, the eighth by 0.019 with one of 0.002
    assert sum(gain > 0 for gain in gained) >= 8
    assert sum(gained) / len(gained) > 0.01
