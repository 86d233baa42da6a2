"""The log of terms: each line binds all before it, and what it says follows from what it was given.

One canonical JSON object a line, with the SHA-256 of the line before. The first line has the rules;
each later one a subject's day, its values, and the acts that followed. Reading folds all days anew.
A log that was cut at its end is a shorter log: whoever keeps the head's digest sees that, too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from clients.durable_file import write_whole
from clients.frozen import parse_settings
from clients.terms.fold import BEGINNING, Act, Terms, Values, after_day, after_review
from clients.terms.rule import TermRules
from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError

_DOMAIN: Final = b"tacit/terms-log/v1\0"
FORMAT: Final = 1


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


@dataclass(slots=True, kw_only=True)
class TermsLog:
    """A log that holds.

    Attributes:
        rules: By which it was made.
        terms: Subject -> where it stands.
        acts: Subject and act, in the log's order.
        head: SHA-256, hex, of the last line.
        lines: The bytes.
        waiting: Subject and rule that wait for a person.
    """

    rules: TermRules
    terms: dict[str, Terms] = field(default_factory=dict)
    acts: list[tuple[str, Act]] = field(default_factory=list)
    head: str = ""
    lines: list[bytes] = field(default_factory=list)
    waiting: set[tuple[str, str]] = field(default_factory=set)

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
        line = canonical_json(whole)
        self.lines.append(line)
        self.head = hashlib.sha256(_DOMAIN + line).hexdigest()


def new_log(rules: TermRules) -> TermsLog:
    """Begin one."""
    log = TermsLog(rules=rules)
    log._write({"kind": "begun", "digest": rules.digest, "rules": rules.model_dump(mode="json")})  # noqa: SLF001
    return log


def read_log(path: Path, *, head: str | None = None) -> TermsLog:
    """Read a log and hold it: chain, rules, and every act folded anew.

    Args:
        path: Its file.
        head: The digest that its end must have; None: any.

    Raises:
        InputError: It cannot be read.
        NotVerifiedError: It was changed.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}); check the path.") from None
    try:
        first = json.loads(lines[0])
        log = new_log(parse_settings(TermRules, first["rules"], str(path)))
        for line in lines[1:]:
            value = json.loads(line)
            if value["kind"] == "decided":
                log.decide(Decision(**{one.name: value[one.name] for one in fields(Decision)}))
            else:
                log.add(Day(subject=value["subject"], day=value["day"], values=value["values"]))
            if log.lines[-1] != line:
                break
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, TacitError):
        raise NotVerifiedError(f"{path}: is no log of terms; restore it from a copy.") from None
    for place, (said, found) in enumerate(zip(lines, log.lines, strict=False)):
        if said != found:
            raise NotVerifiedError(
                f"{path}: line {place + 1} was changed, or does not follow from the lines before; "
                f"restore it from a copy."
            )
    if head is not None and log.head != head:
        raise NotVerifiedError(f"{path}: ends elsewhere than {head[:16]}; it was cut or goes on.")
    return log


def open_log(path: Path, rules: TermRules) -> TermsLog:
    """The log of a file, or a new one.

    Raises:
        RefusedError: It was begun with other rules.
    """
    if not path.exists():
        return new_log(rules)
    log = read_log(path)
    if log.rules.digest != rules.digest:
        raise RefusedError(f"{path}: was begun with other rules; begin another log for these.")
    return log


def add_days(log: TermsLog, days: Iterable[Day]) -> tuple[tuple[str, Act], ...]:
    """Fold days, by day and subject, whatever their order; equal rows count once."""
    found = {(one.day, one.subject, canonical_json(dict(one.values))): one for one in days}
    return tuple((found[key].subject, act) for key in sorted(found) for act in log.add(found[key]))


def write_log(log: TermsLog, path: Path) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, b"".join(line + b"\n" for line in log.lines))
