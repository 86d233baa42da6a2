"""Verifying bundles and homes, and what of it is said to people and programs."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.counted import counted
from federation.fingerprint import fingerprint
from federation.home import Home, read_json, write_bytes
from federation.spending import epsilon_text
from privacy.errors import InputError, NotVerifiedError, TacitError
from privacy.ledger.bundle import Bundle, read_bundle, write_bundle
from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.head import LedgerHead
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.note import parse_note
from privacy.ledger.proof import (
    EXTRA_BYTES_MAX,
    PROOF_HEADER,
    InclusionProof,
    parse_proof,
    verify_proof,
)
from privacy.ledger.store import entries_of, prove_inclusion
from privacy.ledger.trust import TrustPolicy, parse_policy
from privacy.membership import Membership, fold, is_act
from privacy.verify import STEPS, Heads, Verdict, verify_bundle, verify_data

if TYPE_CHECKING:
    from federation.compliance import Finding
    from federation.participant import Place

_CLOCKS_S_MAX = 86_400
_GONE = "step 7 (witnesses): the coordinator's ledger is gone"


@dataclass(frozen=True, slots=True)
class Audit:
    """A verdict, and what else is said of what was verified.

    Attributes:
        verdict: What was found.
        heads: How many remembered states it was held against.
        findings: What rules the runs break; None where what rules need is not installed: the core
            alone verifies.
        membership: Who takes part, by the acts in the coordinator's ledger; None where no
            federation was begun in it.
        known_founder: Public key (hexadecimal) of the founder of the federation that this machine
            joined; empty where it joined none.
        elsewhere: How many remembered states are of a coordinator's ledger that is not at hand, as
            runs were launched from here over the network.
    """

    verdict: Verdict
    heads: int
    findings: tuple["Finding", ...] | None = None
    membership: Membership | None = None
    known_founder: str = ""
    elsewhere: int = 0

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        found = None
        if self.findings is not None:
            from federation.compliance import findings_facts

            found = findings_facts(self.findings)
        return {
            "verified": True,
            **asdict(self.verdict),
            "heads_checked": self.heads,
            "heads_elsewhere": self.elsewhere,
            "rules": found,
            "federation": self._federation_facts(),
        }

    def _federation_facts(self) -> dict[str, Any] | None:
        one = self.membership
        if one is None:
            return None
        active = one.active()
        return {
            "name": one.federation,
            "founder": one.founder,
            "key": one.founder_key.hex(),
            "fingerprint": fingerprint(one.founder_key),
            "suite": one.suite,
            # null where this machine joined no federation, so that nobody here knows
            "known": one.founder_key.hex() == self.known_founder if self.known_founder else None,
            "root": one.root,
            "approvals": one.approvals,
            "participants": {
                name: {"role": each.role, "key": each.key.hex(), "since_ms": each.since_ms}
                for name, each in active.items()
            },
            "revoked": sorted(set(one.participants) - set(active)),
            "waiting": sorted(one.candidates),
        }

    def federation_sentence(self) -> str:
        """Who founded it and how many act in it, for people; empty where none was begun."""
        one = self.membership
        if one is None:
            return ""
        active = one.active()
        roles = Counter(each.role for each in active.values())
        counts = ", ".join(counted(roles[role], role) for role in sorted(roles))
        first = (
            f"Federation {one.federation}, founded by {one.founder} with the key "
            f"{fingerprint(one.founder_key)}"
        )
        if not self.known_founder:
            first += "; compare it with the one that you were told."
        elif self.known_founder == one.founder_key.hex():
            first += ", as this machine's invitation says."
        else:
            first += ", which is NOT who founded the federation that this machine joined."
        parts = [first, f"Suite {one.suite}.", f"{len(active)} take part: {counts}."]
        if gone := len(one.participants) - len(active):
            parts.append(f"Revoked: {gone}.")
        if one.candidates:
            parts.append(f"Waiting for approval: {len(one.candidates)}.")
        return " ".join(parts)

    def sentence(self) -> str:
        """For people, in one paragraph."""
        found = self.verdict
        dangling = found.releases - found.opened
        first = (
            f"Verified: {counted(found.leaves, 'entry')}, {counted(found.runs, 'run')}, "
            f"{counted(found.rounds, 'round')}, {counted(found.releases, 'release')} on record, "
            f"{counted(found.signatures, 'signature')}, held against "
            f"{counted(self.heads, 'remembered state')}; root {found.root[:16]}..."
        )
        parts = [first]
        if found.nodes:
            compared = sum(node.compared for node in found.nodes)
            many = len(found.nodes)
            say = "1 node's own ledger says" if many == 1 else f"{many} nodes' own ledgers say"
            parts.append(f"{say} the same of {counted(compared, 'release')}.")
        elsewhere = sum(node.elsewhere for node in found.nodes)
        if elsewhere:
            told = counted(elsewhere, "release")
            parts.append(f"On record with another coordinator: {told} of nodes.")
        late = [node.owner for node in found.nodes if node.clocks_s > _CLOCKS_S_MAX]
        if late:
            parts.append(f"Clocks differed by more than a day: {', '.join(late)}; caps go by them.")
        if found.set_back:
            parts.append(f"Own ledgers that were set back: {', '.join(found.set_back)}.")
        if found.missing:
            parts.append(
                f"Not compared, as not at hand: {', '.join(found.missing)}. Ask each for a bundle "
                "of its own ledger (tacit audit export)."
            )
        if self.elsewhere:
            parts.append(
                "Not compared, as the coordinator's ledger is not here: "
                f"{counted(self.elsewhere, 'state')} of it that launches from here remember. Ask "
                "the coordinator for its bundle, and verify it with yours."
            )
        if found.unfinished:
            parts.append(f"Not finished: {', '.join(found.unfinished)}.")
        if dangling:
            unopened = counted(dangling, "release")
            parts.append(f"Reserved and never opened, which counts as spent: {unopened}.")
        return " ".join(parts)

    def page(self) -> RenderableType:
        """For people, step by step, with what was spent."""
        steps = Table(show_header=False, box=None, padding=(0, 1))
        for (number, name), said in zip(STEPS.items(), self.verdict.steps, strict=True):
            steps.add_row(f"{number:>2}", name, said)
        costs = self.costs()
        parts: list[RenderableType] = [steps, Text(self.sentence())]
        if self.membership is not None:
            parts.append(Text(self.federation_sentence()))
        if costs is not None:
            parts.append(costs)
        if self.findings is None:
            parts.append(Text("rules: not checked; they need pip install 'tacit-fl[coordinator]'"))
        elif self.findings:
            from federation.compliance import findings_table

            parts.append(findings_table(self.findings))
        return Group(*parts)

    def require_lawful(self) -> None:
        """Return if no rule that refuses is broken by what was verified.

        Raises:
            RefusedError: One is; the records are true all the same.
        """
        if self.findings:
            from federation.compliance import require_lawful

            require_lawful(self.findings)

    def costs(self) -> RenderableType | None:
        """What the receipts add up to, for people; None where there are none."""
        if not self.verdict.privacy:
            return None
        table = Table(title="privacy, computed again from the receipts (add or remove one unit)")
        for name in ("unit", "data set", "cohort", "releases", "epsilon", "if all others collude"):
            table.add_column(name)
        for one in self.verdict.privacy:
            table.add_row(
                one.unit,
                one.dataset,
                one.cohort,
                str(one.releases),
                epsilon_text(one.epsilon),
                epsilon_text(one.solo_epsilon),
            )
        first = self.verdict.privacy[0]
        table.caption = (
            f"delta {first.delta:g}; epsilon against the coordinator with {first.colluders} other "
            "members, at the member whose units it cost most"
        )
        return table


def verify_file(path: Path, *, policy: Path | None = None, rules: str | None = None) -> Audit:
    """Verify a bundle by itself.

    Args:
        path: The bundle.
        policy: Whom the auditor trusts (C2SP tlog-policy); else the bundle's own policy is taken.
        rules: A set's name or a file; None: the usual ones.

    Raises:
        NotVerifiedError: It does not hold.
        InputError: It cannot be read.
    """
    data = _read(path)
    found = verify_data(data, policy=read_policy(policy))
    return _audited(read_bundle(data), found, 0, rules)


def verify_files(
    paths: Sequence[Path],
    *,
    policy: Path | None,
    rules: str | None,
    place: "Place | None" = None,
) -> Audit:
    """Verify what several homes exported, as one: the coordinator's, and members' own ledgers.

    Args:
        paths: The bundles.
        policy: Whom the auditor trusts; else the bundle's own policy is taken.
        rules: A set's name or a file; None: the usual ones.
        place: This machine's in a federation. Of that federation's ledger it remembers what it
            cosigned, which must be there.

    Raises:
        NotVerifiedError: It does not hold.
        InputError: One cannot be read.
    """
    if len(paths) == 1 and place is None:
        return verify_file(paths[0], policy=policy, rules=rules)
    bundle = merge_files(paths)
    heads = {}
    if place is not None and any(log.origin == place.ledger_origin for log in bundle.logs):
        from federation.cosigned import cosigned_heads

        heads = {place.ledger_origin: cosigned_heads(place)}
    return verify_loaded(bundle, policy=read_policy(policy), heads=heads, rules=rules)


def verify_loaded(
    bundle: Bundle,
    *,
    policy: TrustPolicy | None,
    heads: Heads | None = None,
    live: bool = False,
    rules: str | None = None,
) -> Audit:
    """Verify what was read; see `privacy.verify.verify_bundle`.

    Raises:
        NotVerifiedError: It does not hold.
    """
    found = verify_bundle(bundle, policy=policy, heads=heads, live=live)
    count = sum(len(states) for states in (heads or {}).values())
    return _audited(bundle, found, count, rules)


def _audited(bundle: Bundle, found: Verdict, heads: int, rules: str | None) -> Audit:
    return Audit(found, heads, _findings(bundle, rules, None), _membership(bundle))


def failure_facts(failure: NotVerifiedError) -> dict[str, Any]:
    """Return why something does not hold, for programs; as `privacy/verify_alone.py --json` does.

    `step` is None where it is none of the ten steps that found it.
    """
    text = str(failure)
    step = re.match(r"step (\d+) \([^)]*\)(?:: |, )", text)
    return {
        "verified": False,
        "step": None if step is None else int(step[1]),
        "message": text if step is None else text[step.end() :],
    }


def own_place(home: Home) -> "Place | None":
    """Return this machine's place in a federation; None where it is in none.

    Raises:
        InputError: It has one that is damaged.
    """
    from federation.participant import FEDERATION, load_participant

    return load_participant(home) if (home.participant / FEDERATION).exists() else None


def merge_files(paths: Sequence[Path]) -> Bundle:
    """Read several bundles as one.

    Raises:
        NotVerifiedError: One is none, or two copies of a ledger differ.
        InputError: One cannot be read.
    """
    from federation.evidence import merged

    bundles: list[Bundle] = []
    for path in paths:
        data = _read(path)
        try:
            bundles.append(read_bundle(data))
        except NotVerifiedError as fault:
            raise NotVerifiedError(f"step 1 ({STEPS[1]}): {path}: {fault}") from None
    return merged(bundles)


def write_merged(paths: Sequence[Path], path: Path) -> Bundle:
    """Write several bundles as one file, whole or not at all; return it.

    Raises:
        NotVerifiedError: One is none, or two copies of a ledger differ.
        InputError: One cannot be read, or the file cannot be written.
    """
    bundle = merge_files(paths)
    file = BytesIO()
    write_bundle(bundle, file)
    write_bytes(path, file.getvalue())
    return bundle


def verify_home(home: Home, *, policy: Path | None = None, rules: str | None = None) -> Audit:
    """Verify a home's ledgers where they are, against every state that its folders remember.

    What launches over the network remember is of the coordinator's ledger, which is at hand where
    this home is the coordinator's; elsewhere such states are counted, and not compared.

    Raises:
        NotVerifiedError: They do not hold.
        InputError: There is none.
    """
    from federation.evidence import live_bundle
    from federation.ledger_place import open_store

    place = own_place(home)
    keeps = place is not None and home.authority.exists()
    if keeps and not open_store(home.ledger_place).size():
        raise NotVerifiedError(_GONE)
    bundle = live_bundle(home)
    heads, launched = _remembered(home)
    if keeps or (
        place is not None and any(log.origin == place.ledger_origin for log in bundle.logs)
    ):
        heads, launched = [*heads, *launched], []
    audit = verify_remembering(bundle, heads, policy=read_policy(policy))
    return replace(
        audit,
        findings=_findings(bundle, rules, home),
        membership=_membership(bundle),
        elsewhere=len(launched),
    )


def verify_remembering(
    bundle: Bundle, heads: Sequence[LedgerHead], *, policy: TrustPolicy | None = None
) -> Audit:
    """Verify live ledgers against states that were remembered of the coordinator's.

    Raises:
        NotVerifiedError: They do not hold.
    """
    known = [log.origin for log in bundle.logs if log.role == "coordinator"]
    if heads and not known:
        raise NotVerifiedError(_GONE)
    found = verify_bundle(
        bundle, policy=policy, heads={known[0]: heads} if heads else {}, live=True
    )
    return Audit(found, len(heads))


def export_home(home: Home, path: Path) -> Bundle:
    """Write all evidence of a home to one file, whole or not at all; return it.

    Raises:
        NotVerifiedError: A ledger is not what was written; it is not signed then.
        InputError: There is none, or the file cannot be written.
    """
    from federation.evidence import home_bundle

    bundle = home_bundle(home)
    file = BytesIO()
    write_bundle(bundle, file)
    write_bytes(path, file.getvalue())
    return bundle


def export_sentence(bundle: Bundle, path: Path) -> str:
    """For people."""
    made = datetime.fromtimestamp(bundle.made_ms / 1000, tz=UTC)
    leaves = sum(len(log.leaves) for log in bundle.logs)
    return (
        f"{path}: {counted(len(bundle.logs), 'ledger')}, {counted(leaves, 'entry')}, as of "
        f"{made:%Y-%m-%d %H:%M} UTC. Whoever has it checks it with: tacit audit verify {path}"
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """One entry that is on record.

    Attributes:
        origin: The ledger.
        size: Entries of the signed state that has it.
        entry: The entry.
        verified: Whether the state's signature was checked with a key that the auditor gave.
    """

    origin: str
    size: int
    entry: Entry
    verified: bool

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        one = self.entry
        return {
            "verified": self.verified,
            "origin": self.origin,
            "leaves": self.size,
            "index": one.index,
            "time_ms": one.time_ms,
            "kind": one.kind,
            "body": dict(one.body),
        }

    def sentence(self) -> str:
        """For people."""
        one = self.entry
        made = datetime.fromtimestamp(one.time_ms / 1000, tz=UTC)
        return (
            f"Entry {one.index} of {self.origin}, {one.kind} of {made:%Y-%m-%d %H:%M} UTC, is one "
            f"of the {self.size} that its key signed: "
            f"{json.dumps(dict(one.body), ensure_ascii=False, sort_keys=True)}"
        )


def prove_entry(home: Home, index: int, path: Path, *, owner: str) -> Shown:
    """Write one entry with its proof; return it.

    Raises:
        InputError: There is no such ledger or entry, or the file cannot be written.
        NotVerifiedError: The ledger is not what was written; it is not signed then.
    """
    from federation.evidence import home_bundle

    logs = [log for log in home_bundle(home).logs if log.owner == owner]
    if len(logs) != 1:
        what = "no ledger" if not logs else counted(len(logs), "ledger")
        raise InputError(f"{home.root} has {what} of {owner}; see tacit budget show for members.")
    log = logs[0]
    if index >= len(log.leaves):
        entries = counted(len(log.leaves), "entry")
        raise InputError(f"The ledger of {owner} has {entries}, from 0 on.")
    store = MemoryLedger(log.leaves)
    leaf = log.leaves[index]
    if len(leaf) > EXTRA_BYTES_MAX:
        raise InputError(f"Entry {index} is too long for a proof of its own; export the bundle.")
    hashes = prove_inclusion(store, index, len(log.leaves))
    proof = InclusionProof(index, hashes, log.checkpoints[-1], leaf)
    write_bytes(path, proof.to_bytes())
    return Shown(log.origin, len(log.leaves), parse_leaf(leaf), verified=True)


def is_proof(path: Path) -> bool:
    """Whether a file says that it is a proof of one entry."""
    try:
        with path.open("rb") as file:
            return file.read(len(PROOF_HEADER)) == PROOF_HEADER
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None


def verify_proof_file(path: Path, *, policy: Path | None) -> Shown:
    """Verify that one entry is on record, with the key of its ledger.

    Raises:
        NotVerifiedError: It is not, or the policy's quorum did not cosign.
        InputError: No policy is given, so that anybody's key would do.
    """
    if policy is None:
        raise InputError("A proof is held against a key that you trust; give it with --policy.")
    trusted = read_policy(policy)
    proof = parse_proof(_read(path))
    leaf = proof.extra
    if leaf is None or trusted is None:
        raise NotVerifiedError(f"{path} holds a proof without its entry; ask for one with it.")
    origin = parse_note(proof.checkpoint_note).text.split("\n", 1)[0]
    key = next((key for key in trusted.logs if key.name == origin), None)
    if key is None:
        raise NotVerifiedError(f"{path} is about {origin}, which the policy does not trust.")
    state = verify_proof(proof, leaf, key)
    trusted.require_quorum(proof.checkpoint_note)
    entry = parse_leaf(leaf)
    if entry.index != proof.index:
        raise NotVerifiedError(f"{path} shows an entry that is not in its place.")
    return Shown(origin, state.size, entry, verified=True)


def read_policy(path: Path | None) -> TrustPolicy | None:
    """Read whom to trust.

    Raises:
        InputError: It cannot be read.
    """
    if path is None:
        return None
    try:
        return parse_policy(_read(path).decode("utf-8"))
    except (UnicodeDecodeError, InputError) as fault:
        raise InputError(f"{path}: is no C2SP tlog-policy ({fault}).") from None


def _findings(bundle: Bundle, rules: str | None, home: Home | None) -> tuple["Finding", ...] | None:
    """What the verified runs break; None where rules cannot be read, as too little is installed."""
    try:
        from federation.compliance import check_ledger, load_rules
    except ModuleNotFoundError:
        return None
    chosen = load_rules(rules, home=None if home is None else home.root)
    leaves = [leaf for log in bundle.logs if log.role == "coordinator" for leaf in log.leaves]
    return check_ledger(chosen, entries_of(leaves), datetime.now(UTC))


def _membership(bundle: Bundle) -> Membership | None:
    """Who takes part, by a ledger that was verified."""
    leaves = [leaf for log in bundle.logs if log.role == "coordinator" for leaf in log.leaves]
    # a look at the bytes spares parsing every entry
    acts = [
        entry
        for entry in (
            parse_leaf(leaf)
            for leaf in leaves
            if b'"kind":"member.' in leaf or b'"kind":"federation.' in leaf
        )
        if is_act(entry.kind)
    ]
    return fold(acts) if acts else None


def _remembered(home: Home) -> tuple[list[LedgerHead], list[LedgerHead]]:
    """Return what runs here remember of this home's ledger, and what launches do of another's."""
    here: list[LedgerHead] = []
    elsewhere: list[LedgerHead] = []
    for run in home.run_ids():
        for name in ("result.json", "state.json"):
            try:
                told = read_json(home.runs / run / name)
            except TacitError:
                continue
            kept = told.get("ledger")
            if isinstance(kept, dict):
                # a launch over the network says at which coordinator it was
                heads = elsewhere if "coordinator" in told else here
                heads.append(_head(kept, home.runs / run / name))
    return here, elsewhere


def _head(kept: dict[str, Any], path: Path) -> LedgerHead:
    leaves, root = kept.get("leaves"), kept.get("root")
    if type(leaves) is not int or not isinstance(root, str):
        raise NotVerifiedError(f"{path}: what it remembers of the ledger was changed.")
    return LedgerHead(leaves=leaves, root=root)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None
