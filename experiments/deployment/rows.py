"""Deals the C-MAPSS engines out to six operators, each with files of its own and nobody else's.

    FD001 -> ash      FD002 -> birch, cedar      FD003 -> dune      FD004 -> elm, fir

A subset that two operators share is dealt out by the engine's number, even and odd. The contract is
that of configs/contracts/cmapss.yaml with other sources and without `members`: the same text for
all, as a run needs it.
"""

from pathlib import Path

import pandas as pd
import yaml

SHARES = {
    "ash": ("FD001", 1, 0),
    "birch": ("FD002", 2, 0),
    "cedar": ("FD002", 2, 1),
    "dune": ("FD003", 1, 0),
    "elm": ("FD004", 2, 0),
    "fir": ("FD004", 2, 1),
}


def deal(root: Path, shared: Path, folders: dict[str, Path], *, rounds: int | None = None) -> None:
    """Write each operator's contract, run config and rows into its folder.

    Args:
        root: The repository.
        shared: The data folder above `cmapss`.
        folders: Operator -> its folder.
        rounds: Of the run; default: as in configs/failure_cmapss.yaml.
    """
    contract = yaml.safe_load((root / "configs/contracts/cmapss.yaml").read_text("utf-8"))
    del contract["members"]
    contract["sources"] = [
        {"part": "train", "path": "train.csv"},
        {"part": "test", "path": "test.csv", "remaining_life": "lives.txt"},
    ]
    config = yaml.safe_load((root / "configs/failure_cmapss.yaml").read_text("utf-8"))
    config["contract"] = "contract.yaml"
    config["title"] = "Remaining useful life of turbofan engines, 6 operators on their own machines"
    if rounds is not None:
        config["training"]["rounds"] = rounds
        config["average_last"] = min(config["average_last"], max(1, rounds // 4))
    names = [column["name"] for column in contract["columns"]]
    for operator, folder in folders.items():
        subset, modulo, remainder = SHARES[operator]
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):
            path = shared / "cmapss" / f"{part}_{subset}.txt.gz"
            table = pd.read_csv(path, sep=r"\s+", header=None, names=names[1:], dtype=str)
            table.insert(0, "subset", subset)
            engine = table["engine"].astype(int)
            table[engine % modulo == remainder].to_csv(folder / f"{part}.csv", index=False)
            if part == "test":
                lives = (shared / "cmapss" / f"RUL_{subset}.txt.gz").as_posix()
                whole = pd.read_csv(lives, header=None)[0]
                order = engine.drop_duplicates().reset_index(drop=True)
                own = whole[(order % modulo == remainder).to_numpy()]
                (folder / "lives.txt").write_text("".join(f"{one}\n" for one in own))
        (folder / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
