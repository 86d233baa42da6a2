"""Devices whose rows nobody uses, by keyed digests alone, so that a lineage can name them.

Whoever reads rows anew (indicators, scores) passes them through here. A device is its member, its
part where the data tells the parts, and its name by the contract's own unit columns; the digest is
HMAC-SHA256 under the node's key of rows, bound to the contract. Who has no key learns how many
devices were left out, and can test no guess of which.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import DataContract
from clients.gate import Device
from clients.judgement import Judgement, Why
from privacy.canonical import framed

_DOMAIN: Final = b"tacit/left-out/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Which devices of a contract are left out.

    Attributes:
        contract: The contract as it was given: its own unit columns name devices.
        why: Digest (hex) -> why the device is left out.
        key: Of the digests.
    """

    contract: DataContract
    why: Mapping[str, Why]
    key: bytes = field(repr=False)

    def digest(self, member: str, device: Device) -> str:
        """A device's name here, 64 hexadecimal digits.

        Args:
            member: Whose it is; nobody's name counts where the contract has no members.
            device: Which.
        """
        whose = "" if self.contract.members is None else member
        part = b"test" if device.test else b""
        message = framed(
            _DOMAIN, self.contract.digest.encode(), whose.encode(), part, device.unit.encode()
        )
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()


def left_out(judgements: Mapping[str, Judgement], contract: DataContract, key: bytes) -> LeftOut:
    """Gather what was judged of each member's devices.

    Args:
        judgements: Member -> what the gate made of its devices.
        contract: As it was given.
        key: The node's, of its digests of rows.
    """
    nobody = LeftOut(contract=contract, why={}, key=key)
    why = {
        nobody.digest(member, device): reason
        for member, judgement in judgements.items()
        for device, reason in judgement.left_out.items()
    }
    return LeftOut(contract=contract, why=why, key=key)


class Sieve:
    """Lets through rows of devices that are not left out, and counts the others."""

    def __init__(self, out: LeftOut) -> None:
        """Begin to count.

        Args:
            out: Which devices are left out.
        """
        self.out = out
        self._known: dict[tuple[str, Device], str | None] = {}
        self.rows: Counter[str] = Counter()
        """Digest of a device -> rows of it that were held back, at least 1."""

    def passes(
        self,
        units: "pd.Series[str]",
        *,
        members: Sequence[str],
        member: NDArray[np.int32],
        test: NDArray[np.bool_],
        common: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Say which rows pass, shape (rows,).

        Args:
            units: Names by the contract's own unit columns.
            members: Names.
            member: (rows,) Index into `members`.
            test: (rows,) Whether a row is of the test part, where the data tells the parts.
            common: (rows,) Nobody's own row: left out if any member leaves its device out.
        """
        if not self.out.why:
            return np.ones(len(units), dtype=bool)
        unit, names = pd.factorize(units)
        whose = np.where(common, len(members), member).astype(np.int64)
        kinds = (whose * 2 + test) * len(names) + unit
        found, where = np.unique(kinds, return_inverse=True)
        outs: list[str | None] = []
        for kind in found.tolist():
            head, name = divmod(kind, len(names))
            place, told = divmod(head, 2)
            own = members if place == len(members) else members[place : place + 1]
            device = Device(str(names[name]), bool(told))
            outs.append(next((one for m in own if (one := self._digest(m, device))), None))
        for one, count in zip(outs, np.bincount(where, minlength=len(outs)).tolist(), strict=True):
            if one is not None:
                self.rows[one] += count
        return np.array([one is None for one in outs], dtype=bool)[where]

    def _digest(self, member: str, device: Device) -> str | None:
        """The digest of a device that is left out; None for any other."""
        asked = member, device
        if asked not in self._known:
            digest = self.out.digest(member, device)
            self._known[asked] = digest if digest in self.out.why else None
        return self._known[asked]
