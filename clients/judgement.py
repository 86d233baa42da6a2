"""What the quality gate makes of one member's devices: who is left out, and how much a row counts.

It is worked out where there is a ledger to read, and is then a plain value: whoever gets it leaves
out the same rows, in another process too, and needs neither ledger nor key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import pandas as pd

from clients.contract import DataContract, GateRules
from clients.device_trust import MOST, device_facts, trust_score
from clients.gate import Device, Watched, devices, watch
from clients.members import MemberRows
from clients.review import State
from clients.review_store import Looked
from clients.source import TRUST, UNIT

LEAST_WEIGHT: Final = 0.01
"""A member all of whose devices score 0 still trains on them, rather than on nothing at all."""
Why: TypeAlias = Literal["waiting", "rejected", "distrusted"]
Look: TypeAlias = Callable[[Mapping[Device, Watched]], Looked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What becomes of a member's devices.

    Attributes:
        left_out: Devices whose rows are used by nobody, and why.
        shares: Device -> how much its rows count in training, in [`LEAST_WEIGHT`, 1]; None where
            the contract weighs nothing.
    """

    left_out: Mapping[Device, Why]
    shares: Mapping[Device, float] | None = None

    def usable(self, rows: MemberRows, contract: DataContract) -> MemberRows:
        """The rows that may be used, weighed where the contract says so.

        Args:
            rows: Of the member that was judged, any of them.
            contract: What they mean.
        """
        kept = _without(rows, contract, frozenset(self.left_out))
        return kept if self.shares is None else _weighed(kept, contract, self.shares)


def judged(rows: MemberRows, contract: DataContract, look: Look) -> tuple[Judgement, Looked]:
    """Look at all devices of a member, and say which are left out.

    A device that a look only tells of is left out as one that it puts on record.

    Args:
        rows: All that the member has; of columns, those that the gate reads are enough.
        contract: What they mean.
        look: Says where devices stand, such as `clients.review_store.Reviews.look`.

    Raises:
        InputError: The node's folder or ledger cannot be used.
        NotVerifiedError: The ledger, or a file of a review, is not what was written there.
    """
    by_device = devices(rows, contract)
    looked = look({device: watch(frame, contract) for device, frame in by_device.items()})
    out: dict[Device, Why] = {
        one: "rejected" if looked.state(one) is State.REJECTED else "waiting"
        for one in looked.left_out | frozenset(looked.new)
    }
    rules = contract.gate or GateRules.model_construct()
    if rules.least_trust is None and not rules.weigh_by_trust:
        return Judgement(left_out=out), looked
    facts = device_facts(by_device, contract, looked.standings)
    scores = {one: trust_score(known).score for one, known in facts.items()}
    if rules.least_trust is not None:
        for one, score in scores.items():
            if score < rules.least_trust:
                out.setdefault(one, "distrusted")
    shares = None
    if rules.weigh_by_trust:
        shares = {one: max(LEAST_WEIGHT, score / MOST) for one, score in scores.items()}
    return Judgement(left_out=out, shares=shares), looked


def _without(rows: MemberRows, contract: DataContract, out: frozenset[Device]) -> MemberRows:
    if not out:
        return rows
    return MemberRows(
        rows.member,
        _part(rows.train, {one.unit for one in out if not one.test}),
        # where a split is drawn, a device's rows of both parts are the same device's
        _part(rows.test, {one.unit for one in out if one.test is contract.parts_are_told}),
    )


def _weighed(
    rows: MemberRows, contract: DataContract, shares: Mapping[Device, float]
) -> MemberRows:
    def part(frame: pd.DataFrame, *, test: bool) -> pd.DataFrame:
        told = test and contract.parts_are_told
        weights = [shares[Device(str(unit), told)] for unit in frame[UNIT]]
        return frame.assign(**{TRUST: np.array(weights, dtype=np.float64)})

    return MemberRows(rows.member, part(rows.train, test=False), part(rows.test, test=True))


def _part(frame: pd.DataFrame, units: set[str]) -> pd.DataFrame:
    return frame[~frame[UNIT].isin(units)].reset_index(drop=True)
