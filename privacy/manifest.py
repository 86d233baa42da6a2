"""What a run is: the one document that its launcher signs and every node reads before it agrees.

A manifest is bytes first. Its digest names the run in every message, mask and ledger entry, so two
parties that hold different manifests cannot end up in one sum. It is parsed strictly: an unknown
or missing key is an error, and the two `*_settings` parts stay opaque here; the node parses its
own, the coordinator its own.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import ProtocolError
from privacy.ledger.entry import is_hex64
from privacy.ledger.keys import log_key
from privacy.ledger.note import VerifierKey
from privacy.plan import PrivacyPlan, planned_receipts, receipt_of
from privacy.receipt import Receipt
from privacy.suites import SUITE_IDS, SuiteId

FORMAT: Final = 4
Protection = Literal["masked", "sealed", "ckks", "clear"]
PROTECTIONS: Final[tuple[Protection, ...]] = get_args(Protection)
SIGNING_DOMAIN: Final = "manifest"
OLDEST_SUITE: Final = "intl"
COUNTERSIGN_DOMAIN: Final = "countersign"
_LOG: Final = frozenset({"origin", "key"})
_SEEN: Final = frozenset({"acts", "membership"})
_COUNT: Final = re.compile("[1-9][0-9]{0,14}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One run, as agreed.

    Attributes:
        run: The run's name, unique in its home.
        name: The run config's name.
        task: `failure`, `claims` or `credit`.
        unit: Whom a privacy guarantee would protect: `device`, `policyholder`, `borrower`.
        contract: Hex digest of the data contract that every member's rows keep.
        directory: Member name -> hex Ed25519 public key, pinned.
        minimum_cohort: Fewest members in any opened sum; a node may ask for more, never less.
        protection: How sums are protected.
        group_size: Fewest members of a group, where updates are summed in groups and joined by
            their median; 0 for one sum over all.
        privacy: The noise that covers its sums; None for a run without.
        ledger: `origin` and `key` (64 hexadecimal digits) of the coordinator's ledger, which holds
            every release of the run before it is opened. Where the ledger is a federation's, also
            `acts` (decimal digits: how many acts of membership the launcher saw) and `membership`
            (64 hexadecimal digits: `privacy.membership.acts_digest` over these), so that nobody
            takes part who sees another federation than the launcher.
        node_settings: Parsed by the node.
        coordinator_settings: Parsed by the coordinator.
        suite: Id of the algorithms that protect keys and shares (`privacy.suites`). Left out of
            the bytes where it is `intl`, as in all manifests from before there were others.
    """

    run: str
    name: str
    task: str
    unit: str
    contract: str
    directory: Mapping[str, str]
    minimum_cohort: int
    protection: Protection
    group_size: int
    privacy: PrivacyPlan | None
    ledger: Mapping[str, str]
    node_settings: Mapping[str, Any]
    coordinator_settings: Mapping[str, Any]
    suite: SuiteId = "intl"

    def to_bytes(self) -> bytes:
        """Canonical bytes: equal manifests have equal bytes."""
        body = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in body.items()}
        if self.suite == OLDEST_SUITE:
            del plain["suite"]
        plain["privacy"] = None if self.privacy is None else self.privacy.to_json()
        return canonical_json({"format": FORMAT, **plain})

    def digest(self) -> bytes:
        """SHA-256 over the canonical bytes, domain-separated."""
        return hashlib.sha256(b"tacit/manifest/v1\0" + self.to_bytes()).digest()

    def receipt(self, step: str, round_index: int, values: int) -> Receipt:
        """The receipt of one of the run's releases; see `privacy.plan.receipt_of`."""
        return receipt_of(
            self.privacy,
            run=self.run,
            unit=self.unit,
            protection=self.protection,
            step=step,
            round_index=round_index,
            fewest=self.minimum_cohort,
            values=values,
        )

    def planned_receipts(self, *, stages: int, rounds: int) -> list[Receipt]:
        """The receipts of the whole run before it runs; see `privacy.plan.planned_receipts`."""
        return planned_receipts(
            self.privacy,
            run=self.run,
            unit=self.unit,
            protection=self.protection,
            fewest=self.minimum_cohort,
            stages=stages,
            rounds=rounds,
        )

    @property
    def members(self) -> tuple[str, ...]:
        """The members in sorted order."""
        return tuple(sorted(self.directory))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Parse, refusing anything that `to_bytes` would not have written.

        Raises:
            ProtocolError: The bytes are no manifest of this format.
        """
        value = parse_canonical(data)
        names = {field.name for field in fields(cls)}
        form = value.pop("format", None) if isinstance(value, dict) else None
        if not isinstance(value, dict) or type(form) is not int or form != FORMAT:
            raise ProtocolError(f"This is no run manifest of format {FORMAT}; update tacit.")
        required = names - {"suite"} if value.get("suite", OLDEST_SUITE) == OLDEST_SUITE else names
        if set(value) != required:
            wrong = ", ".join(sorted(set(value) ^ required))
            raise ProtocolError(f"The run manifest has missing or unknown keys: {wrong}.")
        texts = ("run", "name", "task", "unit", "contract", "protection")
        tables = ("directory", "ledger", "node_settings", "coordinator_settings")
        if (
            not all(isinstance(value[key], str) for key in texts)
            or not all(isinstance(value[key], dict) for key in tables)
            or type(value["minimum_cohort"]) is not int
            or value["minimum_cohort"] < 1
            or type(value["group_size"]) is not int
            or value["group_size"] < 0
            or value["protection"] not in PROTECTIONS
            or value.get("suite", OLDEST_SUITE) not in SUITE_IDS
            or not all(isinstance(key, str) for key in value["directory"].values())
            or not _is_log(value["ledger"])
        ):
            raise ProtocolError("The run manifest has a value of the wrong type.")
        plan = value["privacy"]
        return cls(**{**value, "privacy": None if plan is None else PrivacyPlan.from_json(plan)})

    @property
    def log(self) -> VerifierKey:
        """The key that signs the checkpoints of the coordinator's ledger."""
        return log_key(self.ledger["origin"], bytes.fromhex(self.ledger["key"]))

    @property
    def log_facts(self) -> Mapping[str, str]:
        """Origin and key of the ledger."""
        return {name: self.ledger[name] for name in _LOG}

    @property
    def acts(self) -> int:
        """How many acts of membership the launcher saw; 0 where the manifest does not say."""
        return int(self.ledger.get("acts", "0"))

    @property
    def membership(self) -> str:
        """The digest over these acts, hexadecimal; empty where the manifest does not say."""
        return self.ledger.get("membership", "")

    def directory_keys(self) -> dict[str, bytes]:
        """Member -> raw public key.

        Raises:
            ProtocolError: A key is not 32 bytes of hex.
        """
        keys: dict[str, bytes] = {}
        for member, text in self.directory.items():
            try:
                keys[member] = bytes.fromhex(text)
            except ValueError:
                keys[member] = b""
            # one key has one spelling: fromhex would also take spaces and capitals
            if keys[member].hex() != text or len(keys[member]) != 32:  # noqa: PLR2004 - the length of an Ed25519 public key
                raise ProtocolError(f"The run manifest has no usable key for member {member}.")
        return keys


def _is_count(value: object) -> bool:
    """Whether it is a number from 1 on, in the one way to write it."""
    return isinstance(value, str) and _COUNT.fullmatch(value) is not None


def _is_log(value: Mapping[str, object]) -> bool:
    if value.keys() not in (_LOG, _LOG | _SEEN) or not is_hex64(value["key"]):
        return False
    if "acts" in value and not (_is_count(value["acts"]) and is_hex64(value["membership"])):
        return False
    origin, key = value["origin"], str(value["key"])
    try:
        return isinstance(origin, str) and log_key(origin, bytes.fromhex(key)).name == origin
    except ValueError:
        return False
