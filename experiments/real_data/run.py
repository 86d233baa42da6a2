"""Does the federation beat each member alone, on real data? See README.md.

    python experiments/real_data/run.py [CONFIG ...] [--seeds 0 1 2]

Launches each config with its baselines, one seed after the other, through the command that a user
types, and writes result.json beside this file: one entry a config, merged with what was there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIGS = (
    "failure_cmapss",
    "failure_cmapss_window",
    "failure_cmapss_personal",
    "claims_fremtpl2",
    "claims_fremtpl2_personal",
    "credit_uci",
    "credit_uci_fate",
    "failure_ai4i",
)


def launch(config: str, seed: int) -> dict:
    words = ["run", "launch", f"configs/{config}.yaml", "--local", "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "federation.cli.main", *words, "--baselines", "--json"],
            cwd=ROOT,
            env={**os.environ, "TACIT_HOME": home},
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout)


def figures(result: dict) -> dict:
    headline = result["headline"]
    baselines = result["baselines"]
    out = {
        "seed": result["seed"],
        "federated": result["metrics"][headline],
        "alone": baselines["local_only"]["metrics"].get(headline),
        "pooled": baselines["pooled"]["metrics"].get(headline),
        "by_member": {
            member: {
                "alone": baselines["local_only"]["by_member"].get(member, {}).get(headline),
                "federated": result["by_member"][member].get(headline),
                "test_rows": result["by_member"][member]["rows"],
            }
            for member in result["members"]
        },
        "metrics": result["metrics"],
        "seconds": result["seconds"],
        "bytes_up_per_member_and_round": result["bytes_per_round"]["up_per_member"],
    }
    if "personal" in result:
        out["personal"] = result["personal"]["metrics"][headline]
        for member, values in result["personal"]["by_member"].items():
            out["by_member"][member]["personal"] = values.get(headline)
    return out


def summary(name: str, seeds: list[dict], headline: str) -> dict:
    def over(key: str) -> dict:
        values = [one[key] for one in seeds if one.get(key) is not None]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return {"mean": statistics.mean(values), "spread": spread, "values": values}

    parts = ["federated", "alone", "pooled"] + (["personal"] if "personal" in seeds[0] else [])
    return {
        "config": name,
        "headline": headline,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        **{part: over(part) for part in parts},
        "seeds": seeds,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    asked = parser.parse_args()
    path = HERE / "result.json"
    for config in asked.configs or CONFIGS:
        results = [launch(config, seed) for seed in asked.seeds]
        kept = json.loads(path.read_text()) if path.exists() else {}
        headline = results[0]["headline"]
        kept[config] = summary(config, [figures(one) for one in results], headline)
        path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        for part in ("federated", "alone", "pooled"):
            print(config, headline, part, [round(v, 4) for v in kept[config][part]["values"]])


if __name__ == "__main__":
    main()
