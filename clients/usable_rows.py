"""A member's rows as they may be used: without devices that wait for a person, or were rejected.

All that a node makes of rows, training, statistics and evaluation, begins here, so it is about the
same rows. A contract without thresholds and without a gate leaves everything as it was read.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clients.contract import DataContract
from clients.gate import Device
from clients.judgement import judged
from clients.members import MemberRows
from clients.node_settings import NodeSettings
from clients.policy import highest_class
from clients.review_store import Looked, Reviews
from clients.vault_folder import folder_vault
from privacy.errors import DataError
from privacy.ledger.store import LedgerStore
from privacy.randomness import Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableRows:
    """Rows that may be used, and what was left out. The counts are for the member's own people.

    Attributes:
        rows: What may be used.
        looked: Where the devices stand.
        distrusted: Devices that are left out for their trust score alone.
        left_out: Rows that are left out.
    """

    rows: MemberRows
    looked: Looked
    distrusted: frozenset[Device]
    left_out: int


def usable(rows: MemberRows, contract: DataContract, reviews: Reviews) -> UsableRows:
    """Look at all devices, put on record what their readings ask for, and leave out what waits.

    Raises:
        InputError: The node's folder or ledger cannot be used.
        NotVerifiedError: The ledger is none.
    """
    judgement, looked = judged(rows, contract, reviews.look)
    kept = judgement.usable(rows, contract)
    distrusted = frozenset(one for one, why in judgement.left_out.items() if why == "distrusted")
    count = len(rows.train) + len(rows.test) - len(kept.train) - len(kept.test)
    return UsableRows(rows=kept, looked=looked, distrusted=distrusted, left_out=count)


def read_usable(
    settings: NodeSettings, ledger: LedgerStore, fold: int | None, entropy: Entropy
) -> MemberRows:
    """Read a node's rows as they may be used.

    Args:
        settings: The node's.
        ledger: Its own, which was begun.
        fold: Which fold is kept for testing.
        entropy: Makes the node's key of digests, the first time.

    Raises:
        InputError: As `usable`.
        DataError: The rows do not keep their contract, or no training rows are left.
    """
    rows, contract = settings.rows(fold), settings.contract
    if not contract.is_gated:
        return rows
    found = usable(rows, contract, open_reviews(settings.home, ledger, contract, entropy))
    if found.left_out:
        logging.getLogger(f"tacit.node.{settings.member}").info(
            "%d of %d rows of %s are left out: of %d devices under review or rejected, %d of too "
            "little trust",
            found.left_out,
            len(rows.train) + len(rows.test),
            contract.name,
            len(found.looked.left_out),
            len(found.distrusted),
        )
    if found.rows.train.empty:
        raise DataError(
            f"No training rows of {contract.name} are left: all of its devices wait for a review, "
            "were rejected, or are not trusted; see tacit data review list."
        )
    return found.rows


def open_reviews(
    home: Path,
    ledger: LedgerStore,
    contract: DataContract,
    entropy: Entropy,
    *,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> Reviews:
    """Open a node's reviews of one contract."""
    return Reviews(
        home=home,
        ledger=ledger,
        dataset=contract.name,
        entropy=entropy,
        now_ms=now_ms,
        vault=folder_vault(home, highest_class(contract), entropy),
    )
