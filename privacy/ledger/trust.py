"""Whose word makes a checkpoint valid, in one text file (C2SP tlog-policy).

log <vkey> [<url>]
witness <name> <vkey> [<url>]
group <name> all|any|<k> <name>...
quorum <name>|none
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.checkpoint import cosigned_at, parse_checkpoint_text
from privacy.ledger.note import COSIGNATURE_V1, ED25519, Note, VerifierKey, parse_note

NONE = "none"  # the predefined name that asks for no witness
POLICY_CHARACTERS_MAX = 1024 * 1024
# Names that `two_thirds` gives to its groups; no key has them, as they hold a plus sign.
TWO_THIRDS = "two+thirds"
TWO_THIRDS_AND = "two+thirds+and"
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANK = re.compile(r"[ \t]+")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses a checkpoint where at least `threshold` of its members do.

    Attributes:
        threshold: 1 to the number of members.
        members: Names of witnesses or of earlier groups.
    """

    threshold: int
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.members):
            raise ValueError(
                f"a group of {len(self.members)} needs 1 to {len(self.members)} of them,"
                f" not {self.threshold}"
            )


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Which logs are known, and whose cosignatures a checkpoint of theirs needs.

    Attributes:
        logs: Keys of type `ED25519`, each with its log's origin as its name. Where there are none,
            the caller knows the log and verifies its signature itself.
        witnesses: Name in this policy -> key of type `COSIGNATURE_V1`.
        groups: Name -> group, each after those it is made of. A name is a member of one group at
            most, so that nobody counts twice.
        quorum: Name of a witness or group that must have witnessed; None asks for nobody.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[str, VerifierKey] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "witnesses", MappingProxyType(dict(self.witnesses)))
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))
        _check_keys("log", self.logs, ED25519)
        _check_keys("witness", self.witnesses.values(), COSIGNATURE_V1)
        free = set(self.witnesses)
        for name, group in self.groups.items():
            if name in free or name in self.witnesses:
                raise ValueError(f"the name {name!r} is given twice")
            for member in group.members:
                if member not in free:
                    raise ValueError(f"{member!r} is not defined before {name!r}, or counts twice")
                free.remove(member)
            free.add(name)
        for name in (*self.witnesses, *self.groups):
            _check_policy_name(name)
        if self.quorum is not None and self.quorum not in {*self.witnesses, *self.groups}:
            raise ValueError(f"the quorum {self.quorum!r} is not defined")

    def to_text(self) -> str:
        """Return the policy file; `parse_policy` reads the same policy from it."""
        lines = [f"log {log.to_text()}" for log in self.logs]
        lines += [f"witness {name} {key.to_text()}" for name, key in self.witnesses.items()]
        lines += [
            f"group {name} {group.threshold} {' '.join(group.members)}"
            for name, group in self.groups.items()
        ]
        lines.append(f"quorum {NONE if self.quorum is None else self.quorum}")
        return "\n".join(lines) + "\n"

    def require_quorum(self, note: bytes) -> dict[str, int]:
        """Return which witnesses cosigned a checkpoint, after verifying that they suffice.

        Args:
            note: A checkpoint, signed by one of the logs and cosigned.

        Returns:
            Name in this policy -> seconds since 1970 UTC, of all that cosigned.

        Raises:
            NotVerifiedError: it is no signed checkpoint, no log of the policy signed it under its
                own origin, a known key's signature does not verify, or witnesses are missing;
                they are named.
        """
        parsed = parse_note(note)
        checkpoint = parse_checkpoint_text(parsed.text)
        if self.logs and checkpoint.origin not in _signers(parsed, self.logs):
            raise NotVerifiedError(
                f"no log of the trust policy signed a checkpoint of {checkpoint.origin};"
                " compare the log's key"
            )
        times: dict[str, int] = {}
        for name, key in self.witnesses.items():
            time_s = cosigned_at(parsed, key)
            if time_s is not None:
                times[name] = time_s
        missing = self._missing(set(times))
        if missing:
            raise NotVerifiedError(
                f"too few witnesses cosigned {checkpoint.origin} at {checkpoint.size} entries;"
                f" missing: {', '.join(missing)}"
            )
        return times

    def _missing(self, witnessed: set[str]) -> list[str]:
        # Witnesses that could still make up the quorum; none where it is reached.
        for name, group in self.groups.items():
            if sum(member in witnessed for member in group.members) >= group.threshold:
                witnessed.add(name)
        missing: list[str] = []
        names = [] if self.quorum is None else [self.quorum]
        while names:
            name = names.pop()
            if name in witnessed:
                continue
            if name in self.groups:
                names += reversed(self.groups[name].members)
            else:
                missing.append(name)
        return missing


def parse_policy(text: str) -> TrustPolicy:
    """Read a policy file; addresses (URLs) and comments are left out.

    Raises:
        InputError: a line is malformed, names what is not defined above it, repeats a name or a
            key, or there is not exactly one quorum.
    """
    if len(text) > POLICY_CHARACTERS_MAX:
        raise InputError(f"a trust policy has at most {POLICY_CHARACTERS_MAX} characters")
    if not text.endswith("\n") or _FORBIDDEN.search(text):
        raise InputError(
            "a trust policy ends in a newline and holds no other control characters than tabs"
        )
    read = _Reading()
    for number, line in enumerate(text[:-1].split("\n"), start=1):
        words = _BLANK.split(line.strip(" \t"))
        if words[0] and not words[0].startswith("#"):
            try:
                read.take(words)
            except (ValueError, InputError) as error:
                raise InputError(f"line {number} of the trust policy: {error}") from None
    if not read.quorum:
        raise InputError("a trust policy needs one line 'quorum NAME', or 'quorum none'")
    try:
        return TrustPolicy(
            tuple(read.logs),
            read.witnesses,
            read.groups,
            None if read.quorum == NONE else read.quorum,
        )
    except ValueError as error:
        raise InputError(f"the trust policy cannot be used: {error}") from None


def two_thirds(
    logs: Iterable[VerifierKey], witnesses: Mapping[str, VerifierKey], also: Sequence[str] = ()
) -> TrustPolicy:
    """Return the usual policy: more than two thirds of the institutions, and each of `also`.

    Any two quorums then share more than a third of the institutions, so that two states of a log
    that contradict each other need that many of them to sign both.

    Args:
        logs: Keys of the known logs.
        witnesses: Name -> key, of the institutions and of `also`.
        also: Names of those who must sign and are not counted among the institutions: the
            regulator.

    Raises:
        ValueError: there are no witnesses, or one of `also` is not among them.
    """
    if not witnesses or not set(also) <= set(witnesses):
        raise ValueError("need at least one witness, and each of `also` among the witnesses")
    required = tuple(dict.fromkeys(also))
    counted = tuple(name for name in witnesses if name not in required)
    groups: dict[str, Group] = {}
    if counted:
        groups[TWO_THIRDS] = Group(2 * len(counted) // 3 + 1, counted)
    if required:
        members = (*groups, *required)
        groups[TWO_THIRDS_AND] = Group(len(members), members)
    return TrustPolicy(tuple(logs), witnesses, groups, list(groups)[-1])


class _Reading:
    """What the lines of a policy have said so far."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[str, VerifierKey] = {}
        self.groups: dict[str, Group] = {}
        self.quorum = ""

    def take(self, words: list[str]) -> None:
        match words:
            case ["log", key] | ["log", key, _]:
                self.logs.append(VerifierKey.from_text(key))
            case ["witness", name, key] | ["witness", name, key, _]:
                self._define(name)
                self.witnesses[name] = VerifierKey.from_text(key)
            case ["group", name, count, first, *rest]:
                members = (first, *rest)
                for member in members:
                    self._require(member)
                self._define(name)
                self.groups[name] = Group(_threshold(count, len(members)), members)
            case ["quorum", name]:
                if self.quorum:
                    raise ValueError("the quorum is given twice")
                if name != NONE:
                    self._require(name)
                self.quorum = name
            case _:
                raise ValueError("it is no log, witness, group or quorum with what belongs to it")

    def _define(self, name: str) -> None:
        if name in self.witnesses or name in self.groups:
            raise ValueError(f"the name {name!r} is given twice")
        _check_policy_name(name)

    def _require(self, name: str) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise ValueError(f"{name!r} is not defined above it")


def _threshold(count: str, members: int) -> int:
    if count in {"all", "any"}:
        return members if count == "all" else 1
    if not _COUNT.fullmatch(count):
        raise ValueError(f"a group needs 'all', 'any' or a number from 1 on, not {count!r}")
    return int(count)


def _check_policy_name(name: str) -> None:
    if not name or name == NONE or re.search(r"[ \t\n]", name) or _FORBIDDEN.search(name):
        raise ValueError(f"{name!r} is no name that a policy may give")


def _check_keys(kind: str, keys: Iterable[VerifierKey], algorithm: int) -> None:
    seen: set[bytes] = set()
    for key in keys:
        if key.algorithm != algorithm:
            raise ValueError(f"a {kind} has a key of type {algorithm}, not {key.algorithm}")
        if key.public in seen:
            raise ValueError(f"the key of the {kind} {key.name} is given twice")
        seen.add(key.public)


def _signers(note: Note, logs: Iterable[VerifierKey]) -> set[str]:
    names: set[str] = set()
    for log in logs:
        for each in note.by(log):
            log.verify(note.text.encode(), each.signature)
            names.add(log.name)
    return names
