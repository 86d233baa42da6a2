"""Print result.json as the tables of README.md.

python experiments/real_data/table.py
"""

import json
import statistics
from pathlib import Path

LOWER_IS_BETTER = {"rmse_cap", "deviance_x100"}


def main() -> None:
    results = json.loads((Path(__file__).parent / "result.json").read_text())
    print("| config | metric | alone | **federated** | fine-tuned | pooled |")
    print("|---|---|---|---|---|---|")
    for name, one in sorted(results.items()):
        digits = 2 if one["headline"] in LOWER_IS_BETTER else 4

        def cell(part: str, one: dict = one, digits: int = digits) -> str:
            if part not in one:
                return ""
            found = one[part]
            return f"{found['mean']:.{digits}f} ± {found['spread']:.{digits}f}"

        parts = [cell(part) for part in ("alone", "federated", "personal", "pooled")]
        parts[1] = f"**{parts[1]}**"
        print(f"| `{name}` | {one['headline']} | {' | '.join(parts)} |")
    for name, one in sorted(results.items()):
        sign = 1 if one["headline"] in LOWER_IS_BETTER else -1
        print(
            f"\n### {name}: {one['headline']} on each member's own test rows, mean of the seeds\n"
        )
        tuned = "personal" in one
        extra = " fine-tuned |" if tuned else ""
        print(f"| member | test rows | alone | federated |{extra} gain | spread of the gain |")
        print("|---|---|---|---|---|---|" + ("---|" if tuned else ""))
        for member, first in one["seeds"][0]["by_member"].items():
            alone = [seed["by_member"][member]["alone"] for seed in one["seeds"]]
            joint = [seed["by_member"][member]["federated"] for seed in one["seeds"]]
            gain = [sign * (a - j) for a, j in zip(alone, joint, strict=True)]
            own = [seed["by_member"][member].get("personal") or 0 for seed in one["seeds"]]
            extra = f" {statistics.mean(own):.3f} |" if tuned else ""
            print(
                f"| {member} | {first['test_rows']:.0f} | {statistics.mean(alone):.3f} | "
                f"{statistics.mean(joint):.3f} |{extra} {statistics.mean(gain):+.3f} | "
                f"{statistics.stdev(gain) if len(gain) > 1 else 0:.3f} |"
            )
        groups = [k for k in one["seeds"][0]["metrics"] if k.startswith(one["headline"] + ".")]
        if groups:
            print("\n| group | federated |\n|---|---|")
            for key in groups:
                values = [seed["metrics"][key] for seed in one["seeds"]]
                print(f"| {key.split('.')[1]} | {statistics.mean(values):.2f} |")


if __name__ == "__main__":
    main()
