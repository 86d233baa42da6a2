"""Does the federation beat each member alone on generated data, in each of the three tasks?

    python experiments/generated/run.py [--seeds 0 1 2]

Runs `tacit demo --scenario all --generated` once a seed (the seed makes the data and the model) and
writes result.json beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOWER_IS_BETTER = {"deviance_x100"}


def demo(seed: int) -> list[dict]:
    words = ["demo", "--scenario", "all", "--generated", "--seed", str(seed), "--json"]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "federation.cli.main", *words],
            cwd=ROOT,
            env={**os.environ, "TACIT_HOME": home},
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout)["runs"]


def figures(result: dict) -> dict:
    headline = result["headline"]
    alone = result["baselines"]["local_only"]
    sign = -1 if headline in LOWER_IS_BETTER else 1
    gains = {
        member: sign
        * (result["by_member"][member][headline] - alone["by_member"][member][headline])
        for member in result["members"]
        if member in alone["by_member"]
    }
    return {
        "seed": result["seed"],
        "headline": headline,
        "federated": result["metrics"][headline],
        "alone": alone["metrics"][headline],
        "pooled": result["baselines"]["pooled"]["metrics"][headline],
        "members": len(result["members"]),
        "members_that_gain": sum(gain > 0 for gain in gains.values()),
        "gains": gains,
        "seconds": result["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    asked = parser.parse_args()
    kept: dict = {"date": f"{datetime.now(UTC):%Y-%m-%d}"}
    for seed in asked.seeds:
        for result in demo(seed):
            found = figures(result)
            kept.setdefault(result["task"], []).append(found)
            print(
                result["task"],
                *(f"{key} {found[key]}" for key in ("seed", "federated", "alone", "pooled")),
                f"{found['members_that_gain']} of {found['members']} gain",
            )
    (HERE / "result.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
