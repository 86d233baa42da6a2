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
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from clients.contract import DataContract
from clients.frozen import Frozen
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


class LeftOutFacts(Frozen):
    """What a lineage says of a device that is no part of its table.

    Attributes:
        why: Why its rows are used by nobody.
        rows: How many were held back, within a window or not.
    """

    why: Why
    rows: Annotated[int, Field(ge=0)]


def left_out_again(
    told: Mapping[str, LeftOutFacts] | None, contract: DataContract, key: bytes
) -> LeftOut | None:
    """What was left out as a lineage tells it, whatever has been decided of a device since.

    Args:
        told: The lineage's; None where it asked no gate.
        contract: The one that it names.
        key: The node's, of its digests.
    """
    if told is None:
        return None
    return LeftOut(contract=contract, why={one: facts.why for one, facts in told.items()}, key=key)


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
        self.units: dict[str, Why] = {}
        """Name of a device that was held back -> why; for its own member's people alone."""

    def facts(self) -> dict[str, LeftOutFacts]:
        """Digest -> what is said of a device, for all that are left out; by digest."""
        return {
            digest: LeftOutFacts(why=why, rows=self.rows[digest])
            for digest, why in sorted(self.out.why.items())
        }

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
        owner = np.where(common, len(members), member).astype(np.int64)
        kinds = (owner * 2 + test) * len(names) + unit
        found, where = np.unique(kinds, return_inverse=True)
        outs: list[tuple[str, str | None]] = []
        for kind in found.tolist():
            head, at = divmod(kind, len(names))
            place, told = divmod(head, 2)
            own = members if place == len(members) else members[place : place + 1]
            device = Device(str(names[at]), bool(told))
            digests = (self._digest(whose, device) for whose in own)
            outs.append((device.unit, next(filter(None, digests), None)))
        counts = np.bincount(where, minlength=len(outs)).tolist()
        for (name, digest), count in zip(outs, counts, strict=True):
            if digest is not None:
                self.rows[digest] += count
                self.units[name] = self.out.why[digest]
        return np.array([digest is None for _, digest in outs], dtype=bool)[where]

    def _digest(self, member: str, device: Device) -> str | None:
        """The digest of a device that is left out; None for any other."""
        asked = member, device
        if asked not in self._known:
            digest = self.out.digest(member, device)
            self._known[asked] = digest if digest in self.out.why else None
        return self._known[asked]
