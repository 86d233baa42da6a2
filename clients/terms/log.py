"""The log of terms: each line binds all before it, and what it says follows from what it was given.

One canonical JSON object a line, with the SHA-256 of the line before, the key of who wrote it and
its signature (Ed25519) over all else in the line. The first line has the rules; each later one a
subject's day, its values, and the acts that followed. Reading folds all days anew, and checks each
signature against the keys that the reader believes. A log that was cut at its end is a shorter log:
whoever keeps a head, and how many lines there were, sees that, too (`Mark`).

Who goes on with a log holds it (`holding`), so two writers never write over each other.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from clients.durable_file import write_whole
from clients.frozen import parse_settings
from clients.terms.fold import BEGINNING, Act, Terms, Values, after_day, after_review
from clients.terms.rule import TermRules
from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError, ProtocolError, RefusedError, TacitError
from privacy.identity import Identity, verify_signature
from privacy.json_value import json_value

_DOMAIN: Final = b"tacit/terms-log/v1\0"
SIGNED: Final = "terms-log-entry"
FORMAT: Final = 2
WAIT_S: Final = 20.0
Sign = Callable[[bytes], tuple[str, str]]
"""A line without them -> the key and the signature that it gets, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A subject's day as it came in."""

    subject: str
    day: int
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person decided about an act that waited, and why."""

    subject: str
    rule: str
    approved: bool
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Mark:
    """How far somebody saw a log.

    Attributes:
        lines: Its lines then.
        head: SHA-256, hex, of the last of them.
        key: Who wrote that, a public key, hexadecimal.
    """

    lines: int
    head: str
    key: str


@dataclass(slots=True, kw_only=True)
class TermsLog:
    """A log that holds.

    Attributes:
        rules: By which it was made.
        terms: Subject -> where it stands.
        acts: Subject and act, in the log's order.
        lines: The bytes.
        heads: SHA-256, hex, of each line.
        waiting: Subject and rule that wait for a person.
        sign: Signs what is put in; it cannot be printed.
        key: Who wrote the last line, hexadecimal.
    """

    rules: TermRules
    terms: dict[str, Terms] = field(default_factory=dict)
    acts: list[tuple[str, Act]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    waiting: set[tuple[str, str]] = field(default_factory=set)
    sign: Sign = field(repr=False)
    key: str = ""

    @property
    def head(self) -> str:
        """SHA-256, hex, of the last line; empty before the first."""
        return self.heads[-1] if self.heads else ""

    @property
    def mark(self) -> Mark:
        """How far it goes."""
        return Mark(len(self.lines), self.head, self.key)

    def add(self, given: Day) -> tuple[Act, ...]:
        """Fold one day and put it in."""
        now, acts = after_day(
            self.rules, self.terms.get(given.subject, BEGINNING), given.day, given.values
        )
        self.terms[given.subject] = now
        self.acts += [(given.subject, act) for act in acts]
        self.waiting |= {(given.subject, act.rule) for act in acts if act.kind == "review"}
        self._write({"kind": "day", **asdict(given), "acts": [asdict(act) for act in acts]})
        return acts

    def decide(self, given: Decision) -> tuple[Act, ...]:
        """Put a person's decision in, and carry out what was approved, by today's state.

        Raises:
            RefusedError: Nothing waits there.
        """
        if (given.subject, given.rule) not in self.waiting:
            raise RefusedError(
                f"{given.subject}: {given.rule} waits for nobody; see tacit terms explain."
            )
        self.waiting.remove((given.subject, given.rule))
        now = self.terms[given.subject]
        acts: tuple[Act, ...] = ()
        if given.approved:
            now, acts = after_review(self.rules, now, given.rule)
        self.terms[given.subject] = now
        self.acts += [(given.subject, act) for act in acts]
        self._write({"kind": "decided", **asdict(given), "acts": [asdict(act) for act in acts]})
        return acts

    def _write(self, body: Mapping[str, Any]) -> None:
        whole = {"format": FORMAT, "index": len(self.lines), "previous": self.head, **body}
        self.key, signature = self.sign(canonical_json(whole))
        line = canonical_json({**whole, "key": self.key, "signature": signature})
        self.lines.append(line)
        self.heads.append(hashlib.sha256(_DOMAIN + line).hexdigest())


def signed_by(identity: Identity) -> Sign:
    """Return what signs a log's lines with a home's key."""
    return lambda body: (identity.public.hex(), identity.sign(SIGNED, body).hex())


def new_log(rules: TermRules, sign: Sign) -> TermsLog:
    """Begin one."""
    log = TermsLog(rules=rules, sign=sign)
    log._write({"kind": "begun", "digest": rules.digest, "rules": rules.model_dump(mode="json")})  # noqa: SLF001
    return log


def read_log(
    path: Path, *, keys: Collection[str], head: str | None = None, seen: Mark | None = None
) -> TermsLog:
    """Read a log and hold it: chain, signatures, rules, and every act folded anew.

    Nothing can be put in what was read before its `sign` is set.

    Args:
        path: Its file.
        keys: Who may have written it, public keys, hexadecimal.
        head: The digest that its end must have; None: any.
        seen: How far it was seen before; it must go on from there. None: it is new here.

    Raises:
        InputError: It cannot be read.
        RefusedError: It is of an earlier version.
        NotVerifiedError: It was changed or cut, or a line is of another key.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}); check the path.") from None
    if seen is not None and 0 < seen.lines <= len(lines):
        bound = hashlib.sha256(_DOMAIN + lines[seen.lines - 1]).hexdigest() == seen.head
        # who wrote what was seen was believed then; the home's own key may be another by now
        keys = {*keys, *_keys_of(lines[: seen.lines])} if bound else keys
    log = _folded(path, lines, keys)
    for place, (said, found) in enumerate(zip(lines, log.lines, strict=False)):
        if said != found:
            raise NotVerifiedError(
                f"{path}: line {place + 1} was changed, or does not follow from the lines before; "
                f"restore it from a copy."
            )
    if head is not None and log.head != head:
        raise NotVerifiedError(f"{path}: ends elsewhere than {head[:16]}; it was cut or goes on.")
    if seen is not None and log.heads[seen.lines - 1 : seen.lines] != [seen.head]:
        raise NotVerifiedError(
            f"{path}: had {seen.lines} lines with the head {seen.head[:16]} when it was seen here "
            f"last, and was cut or is another one now; restore it from a copy."
        )
    return log


def _keys_of(lines: Iterable[bytes]) -> set[str]:
    """Who wrote lines, as they say it."""
    found: set[str] = set()
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            found.add(str(json_value(line)["key"]))
    return found


def _folded(path: Path, lines: list[bytes], keys: Collection[str]) -> TermsLog:
    """A log's lines made anew; it ends with the first line that comes out otherwise."""
    number, log = 1, None
    try:
        first = json_value(lines[0])
        if first["format"] != 1:
            rules = parse_settings(TermRules, first["rules"], str(path))
            log = new_log(rules, _as_signed(first, keys))
            for number, line in enumerate(lines[1:], 2):  # noqa: B007 - said below
                value = json_value(line)
                log.sign = _as_signed(value, keys)
                if value["kind"] == "decided":
                    log.decide(Decision(**{one.name: value[one.name] for one in fields(Decision)}))
                else:
                    log.add(Day(subject=value["subject"], day=value["day"], values=value["values"]))
                if log.lines[-1] != line:
                    break
            log.sign = _unsigned
    except _StrangerError as stranger:
        raise NotVerifiedError(
            f"{path}: line {number} is of the key {stranger.key[:64]}, which this home does not "
            f"know; if it is right, give it with --key."
        ) from None
    except ProtocolError:
        raise NotVerifiedError(
            f"{path}: line {number} was changed after it was signed; restore it from a copy."
        ) from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, TacitError):
        raise NotVerifiedError(f"{path}: is no log of terms; restore it from a copy.") from None
    if log is None:
        raise RefusedError(
            f"{path}: is of an earlier version, without signatures; fold its days into a new log, "
            f"with tacit terms run."
        )
    return log


class _StrangerError(Exception):
    """A line is of a key that the reader does not believe."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _as_signed(value: Mapping[str, Any], keys: Collection[str]) -> Sign:
    """Sign a line as it says that it is signed, if it is, and by somebody who may."""

    def sign(body: bytes) -> tuple[str, str]:
        key, signature = str(value["key"]), str(value["signature"])
        if key not in keys:
            raise _StrangerError(key)
        verify_signature(bytes.fromhex(key), SIGNED, body, bytes.fromhex(signature))
        return key, signature

    return sign


def _unsigned(_: bytes) -> tuple[str, str]:
    raise RefusedError("this log was opened to be read; nothing is put in it.")


def open_log(
    path: Path, rules: TermRules, sign: Sign, *, keys: Collection[str], seen: Mark | None = None
) -> TermsLog:
    """The log of a file, or a new one; hold it while it is gone on with.

    Raises:
        RefusedError: It was begun with other rules.
        NotVerifiedError: As `read_log`; or it was seen before, and is gone.
    """
    if not path.exists():
        if seen is not None:
            raise NotVerifiedError(
                f"{path}: had {seen.lines} lines when it was seen here last, and is gone; restore "
                f"it from a copy, or begin another log elsewhere."
            )
        return new_log(rules, sign)
    log = read_log(path, keys=keys, seen=seen)
    if log.rules.digest != rules.digest:
        raise RefusedError(f"{path}: was begun with other rules; begin another log for these.")
    log.sign = sign
    return log


@contextmanager
def holding(path: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Keep other writers out of a log, from its reading until it is written.

    Raises:
        RefusedError: Another process holds it for longer than that.
        InputError: Its folder is not there, or cannot be written.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no such folder; make it, or choose another.")
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=wait_s)
    try:
        lock.acquire()
    except Timeout:
        raise RefusedError(f"{path}: another process writes it; run this again.") from None
    except OSError as failure:
        raise InputError(f"{path}: cannot be written ({failure.strerror}).") from None
    try:
        yield
    finally:
        lock.release()


def add_days(log: TermsLog, days: Iterable[Day]) -> tuple[tuple[str, Act], ...]:
    """Fold days, by day and subject, whatever their order; equal rows count once."""
    found = {(one.day, one.subject, canonical_json(dict(one.values))): one for one in days}
    return tuple((found[key].subject, act) for key in sorted(found) for act in log.add(found[key]))


def write_log(log: TermsLog, path: Path) -> None:
    """Write it whole or not at all; hold it from its reading until then (`holding`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # subjects and reasons are its owner's to show
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    write_whole(path, b"".join(line + b"\n" for line in log.lines), mode=mode)
