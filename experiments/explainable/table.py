"""The tables of README.md and docs/explaining.md, from result.json here and in real_data."""

import json
import statistics
from pathlib import Path

WHERE = {
    "additive": "federated",
    "additive, monotone": "federated",
    "challenger": "federated",
    "gradient boosting": "pooled",
    "gradient boosting, one column a tree": "pooled",
    "linear": "pooled",
    "constant": "pooled",
}


CHALLENGERS = {"uci_credit": "credit_uci", "fremtpl2": "claims_fremtpl2"}
HERE = Path(__file__).parent


def main() -> None:
    kept = json.loads((HERE / "result.json").read_text())
    real = json.loads((HERE.parent / "real_data" / "result.json").read_text())
    for name, one in kept.items():
        metric, models = one["metric"], one["models"]
        null = None
        if metric == "deviance_x100":
            null = models["constant"][0]["metrics"][metric]
        print(f"### {name}\n")
        print(f"| model | rows | {metric} |" + (" D² |" if null else "") + " seeds |")
        print("|---|---|---|" + ("---|" if null else "") + "---|")
        for model, where in WHERE.items():
            values = [seed["metrics"][metric] for seed in models.get(model, [])]
            if model == "challenger":
                values = real[CHALLENGERS[name]]["federated"]["values"]
            if not values or (model == "constant" and null is None):
                continue
            mean = statistics.mean(values)
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            share = f" {1 - mean / null:.2%} |" if null else ""
            print(f"| {model} | {where} | {mean:.4f}{spread} |{share} {len(values)} |")
        print()
        for model, seeds in models.items():
            if "turned" in seeds[0]:
                said = "; ".join(", ".join(seed["turned"]) or "none" for seed in seeds)
                print(f"Promised curves that turn, {model}, by seed: {said}.\n")


if __name__ == "__main__":
    main()
