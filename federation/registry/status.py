"""What a registry shows at a glance: its ledgers, their newest signed states, and who cosigned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from federation.proto import registry_pb2 as wire
from federation.registry.client import RegistryClient, told_key
from federation.registry.plain import plain
from federation.registry.source import AbsentError
from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import cosigners, open_checkpoint
from privacy.ledger.note import VerifierKey, parse_note
from privacy.ledger.trust import TrustPolicy

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """One ledger as a registry shows it.

    Attributes:
        origin: Its name in checkpoints.
        owner: Whose it is.
        role: `coordinator` or `node`.
        size: Its entries now.
        signed: Entries of the newest checkpoint that its first key signed; None without one.
        cosigned: Witness -> seconds since 1970 UTC, verified by a policy's keys.
        unverified: Names under the checkpoint that nobody vouches for here.
        reason: Why there is no valid checkpoint; empty if there is one.
    """

    origin: str
    owner: str
    role: str
    size: int
    signed: int | None
    cosigned: Mapping[str, int]
    unverified: Sequence[str]
    reason: str


def read_status(client: RegistryClient, policy: TrustPolicy | None) -> tuple[LedgerStatus, ...]:
    """Ask for all ledgers and their newest checkpoints.

    Args:
        client: Whom to ask.
        policy: Whose cosignatures to verify.

    Raises:
        TacitError: see `RegistryClient`.
    """
    witnesses = () if policy is None else tuple(policy.witnesses.values())
    found: list[LedgerStatus] = []
    for told in client.ledgers().ledgers:
        signed: int | None = None
        cosigned: dict[str, int] = {}
        unverified: list[str] = []
        reason = ""
        try:
            note = client.checkpoint(told.origin)
            key = _key(told)
            signed = open_checkpoint(note, key).size
            cosigned = cosigners(note, witnesses)
            known = {plain(key.name), *cosigned}
            unverified = [plain(each.name) for each in parse_note(note).signatures]
            unverified = [name for name in unverified if name not in known]
        except (AbsentError, NotVerifiedError) as error:
            reason = str(error)
        found.append(
            LedgerStatus(
                origin=plain(told.origin),
                owner=plain(told.owner),
                role=plain(told.role),
                size=told.size,
                signed=signed,
                cosigned=cosigned,
                unverified=unverified,
                reason=reason,
            )
        )
    return tuple(found)


def _key(told: wire.Ledger) -> VerifierKey:
    key = told_key(told)
    if key is None:
        raise NotVerifiedError("it says no key of its own")
    return key


def status_facts(statuses: Sequence[LedgerStatus]) -> dict[str, Any]:
    """Return them for `--json`."""
    return {
        "ledgers": [
            {
                "origin": one.origin,
                "owner": one.owner,
                "role": one.role,
                "entries": one.size,
                "signed": one.signed,
                "cosigned": dict(one.cosigned),
                "unverified": list(one.unverified),
                "reason": one.reason,
            }
            for one in statuses
        ]
    }


def status_table(statuses: Sequence[LedgerStatus]) -> "Table":
    """Return them for people."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Ledgers and their newest signed states")
    for name in ("ledger", "owner", "entries", "signed", "cosigned by"):
        table.add_column(name, justify="right" if name in {"entries", "signed"} else "left")
    for one in statuses:
        who = [f"{name} ({_utc(time_s)})" for name, time_s in one.cosigned.items()]
        who += [f"{name} (not verified)" for name in one.unverified]
        table.add_row(
            escape(one.origin),
            escape(one.owner),
            str(one.size),
            "-" if one.signed is None else str(one.signed),
            escape("\n".join(who) or one.reason or "nobody"),
        )
    return table


def _utc(time_s: int) -> str:
    try:
        return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "at no possible time"
