"""What does a secure sum add to a whole run? Real training on C-MAPSS, by each protection.

    python experiments/secure_sum/whole_run.py [--data FOLDER] [--repeats 3] [--out FOLDER]

Protections take turns, so that what else the machine does falls on all of them; the medians are
compared. The time is that of the federation: from the members' nodes starting to the last report.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import yaml

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "failure_cmapss.yaml"
PROTECTIONS = ("clear", "masked", "sealed")


def config_for(protection: str, rounds: int, folder: Path) -> Path:
    config = yaml.safe_load(CONFIG.read_text())
    config["contract"] = str(CONFIG.parent / config["contract"])
    config["protection"] = {"sum": protection}
    config["training"]["rounds"] = rounds
    config["average_last"] = min(config["average_last"], rounds)
    path = folder / f"{protection}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def launched(config: Path, data: Path, home: Path) -> dict:
    words = ["run", "launch", str(config), "--local", "--json", "--allow", "clear"]
    found = subprocess.run(
        [sys.executable, "-m", "federation.cli.main", *words, "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TACIT_HOME": str(home), "OMP_NUM_THREADS": "1"},
    )
    if found.returncode:
        raise SystemExit(found.stderr)
    return json.loads(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("TACIT_DATA"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    data = Path(asked.data or ROOT.parent / "shared" / "data")
    if not data.is_dir():
        print(f"{data}: no such data folder, so no whole run; give --data FOLDER.")
        return
    rows: dict[str, list[dict]] = {name: [] for name in PROTECTIONS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for _ in range(asked.repeats):
            for name in PROTECTIONS:
                result = launched(config_for(name, asked.rounds, root), data, root / "home")
                rows[name].append(result)
                print(f"{name:8} {result['seconds']['federated']:7.2f} s", file=sys.stderr)
    seconds = {n: [r["seconds"]["federated"] for r in found] for n, found in rows.items()}
    base = median(seconds["clear"])
    kept = {
        name: {
            "seconds": seconds[name],
            "median_s": median(seconds[name]),
            "to_clear": round(median(seconds[name]) / base, 3),
            "rmse_cap": rows[name][0]["metrics"]["rmse_cap"],
            "bytes_up_per_round": rows[name][0]["bytes_per_round"]["up_per_member"],
        }
        for name in PROTECTIONS
    }
    text = json.dumps({"rounds": asked.rounds, "protections": kept}, indent=1)
    print(text)
    if asked.out:
        (asked.out / "whole_run.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
