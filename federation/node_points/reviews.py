"""Devices whose rows wait for a person."""

import time
from collections.abc import Iterator
from pathlib import Path

from clients.contract import DataContract
from clients.ledger_files import LEDGER
from clients.policy import highest_class
from clients.review import State
from clients.review_store import Reviews
from clients.vault_folder import folder_vault
from federation.node_points.point import Point, sentence_of
from privacy.errors import TacitError
from privacy.ledger.sqlite import SqliteLedger
from privacy.randomness import system_bytes


def review_points(contract: DataContract, folder: Path) -> Iterator[Point]:
    """Whether devices of a contract wait, as they stood when they were looked at last."""
    name, path = f"devices {contract.name}", folder / LEDGER
    remedy = "See tacit data review list, then tacit data review release or reject."
    if not path.exists():
        yield Point(name, "ok", "No device was ever looked at; tacit data gate does.")
        return
    try:
        known = Reviews(
            home=folder,
            ledger=SqliteLedger(path),
            dataset=contract.name,
            entropy=system_bytes,
            now_ms=lambda: time.time_ns() // 1_000_000,
            vault=folder_vault(folder, highest_class(contract), system_bytes),
        ).remembered()
    except TacitError as fault:
        yield Point(name, "failed", sentence_of(fault), "Restore the node's folder from a copy.")
        return
    states = [one.standing.state for one in known]
    waiting = states.count(State.WAITING)
    if waiting:
        are = "device waits" if waiting == 1 else "devices wait"
        yield Point(
            name, "warning", f"{waiting} {are} for a person, and no run uses their rows.", remedy
        )
        return
    rejected = states.count(State.REJECTED)
    yield Point(name, "ok", f"No device waits for a person; {rejected} stay rejected.")
