"""`tacit terms`: grades, limits and premiums from indicators and model outputs."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.cli.output import AsJson, print_json, print_rich
from privacy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clients.terms.fold import Act
    from clients.terms.log import Day, TermsLog
    from clients.terms.rule import TermRules

app = typer.Typer(no_args_is_help=True)
_TEXT_MAX = 300
Rules = Annotated[Path, typer.Argument(help="Rules of terms (YAML).")]
Log = Annotated[Path, typer.Argument(help="A log that `tacit terms run` wrote.")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Public key of who wrote it, if not this home; repeat it."),
]
Lang = Annotated[str, typer.Option("--lang", help="en or zh.")]


@app.command()
def check(rules: Rules, as_json: AsJson = False) -> None:
    """Read rules: exit 2 if one asks of a raw reading, or cannot be kept."""
    from clients.terms.rule import load_terms

    found = load_terms(rules)
    if as_json:
        print_json({"digest": found.digest, "rules": found.model_dump(mode="json")})
    else:
        print_rich(
            f"{found.name}: {len(found.signals)} signals, {len(found.rules)} rules, "
            f"digest {found.digest[:16]}..."
        )


@app.command()
def run(
    rules: Rules,
    values: Annotated[Path, typer.Option("--values", help="CSV: subject, day, signals.")],
    log: Annotated[Path, typer.Option("--log", help="Where acts are kept.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; leave the log as it is.")
    ] = False,
    lang: Lang = "en",
    as_json: AsJson = False,
) -> None:
    """Fold days into terms, and log what follows."""
    _require_language(lang)
    from contextlib import nullcontext

    from clients.terms.log import add_days, holding, open_log, signed_by, write_log
    from clients.terms.rule import load_terms
    from federation.home import open_home
    from federation.terms_memory import home_identity, remember, remembered
    from privacy.randomness import system_bytes

    known = load_terms(rules)
    days = _days(values, known, today=datetime.now(UTC).date())
    home = open_home()
    identity = home_identity(home, system_bytes, keep=not dry_run)
    with nullcontext() if dry_run else holding(log):
        seen = remembered(home, log)
        keys = {identity.public.hex()} | ({seen.key} if seen else set())
        kept = open_log(log, known, signed_by(identity), keys=keys, seen=seen)
        acts = add_days(kept, days)
        if not dry_run:
            write_log(kept, log)
            remember(home, log, kept.mark)
    _show(kept, acts, lang=lang, as_json=as_json, dry_run=dry_run)


@app.command("log")
def verify(
    log: Log,
    head: Annotated[str | None, typer.Option(help="The digest that it must end with.")] = None,
    keys: Keys = None,
    as_json: AsJson = False,
) -> None:
    """Verify a log: chain, signatures, rules, every act folded anew. Exit 1 if it was changed."""
    found = _read(log, keys, head=head)
    facts = {
        "head": found.head,
        "lines": len(found.lines),
        "subjects": len(found.terms),
        "key": found.key,
    }
    if as_json:
        print_json(facts)
    else:
        print_rich(f"{log}: holds, {len(found.lines)} lines, head {found.head}")


@app.command()
def explain(
    log: Log, subject: str, keys: Keys = None, lang: Lang = "en", as_json: AsJson = False
) -> None:
    """Say where one subject stands, and by which acts it came there."""
    _require_language(lang)
    found = _read(log, keys)
    if subject not in found.terms:
        raise InputError(f"{log}: has no subject {subject}; check the name.")
    found.terms = {subject: found.terms[subject]}
    acts = tuple(one for one in found.acts if one[0] == subject)
    _show(found, acts, lang=lang, as_json=as_json, dry_run=False)


@app.command()
def decide(
    log: Log,
    subject: str,
    rule: str,
    by: Annotated[str, typer.Option("--by", help="Who decides.")],
    reason: Annotated[str, typer.Option("--reason", help="Why.")],
    approve: Annotated[
        bool | None, typer.Option("--approve/--refuse", help="Carry it out, or not.")
    ] = None,
    lang: Lang = "en",
    as_json: AsJson = False,
) -> None:
    """Put a person's decision about a waiting change on record, and carry it out if approved.

    It is signed with this home's key; --by says which of its people decided.
    """
    from clients.terms.log import Decision, holding, signed_by, write_log
    from federation.home import open_home
    from federation.terms_memory import home_identity, remember
    from privacy.randomness import system_bytes

    _require_language(lang)
    if approve is None:
        raise InputError("say --approve or --refuse.")
    for name, text in (("--by", by), ("--reason", reason)):
        if not text.strip() or len(text) > _TEXT_MAX or not text.isprintable():
            raise InputError(f"{name}: expected 1 to {_TEXT_MAX} printable characters.")
    if not log.exists():
        raise InputError(f"{log}: there is no such log; check the path.")
    home = open_home()
    with holding(log):
        found = _read(log, None)
        found.sign = signed_by(home_identity(home, system_bytes))
        acts = found.decide(
            Decision(subject=subject, rule=rule, approved=approve, by=by, reason=reason)
        )
        write_log(found, log)
        remember(home, log, found.mark)
    _show(found, tuple((subject, act) for act in acts), lang=lang, as_json=as_json, dry_run=False)


def _read(log: Path, keys: list[str] | None, *, head: str | None = None) -> "TermsLog":
    """A log of this home's key, of the one it was seen with, or of those that are given."""
    from clients.terms.log import read_log
    from federation.home import open_home
    from federation.terms_memory import home_identity, remember, remembered
    from privacy.randomness import system_bytes

    home = open_home()
    seen = remembered(home, log)
    known = {one.lower() for one in keys or ()} | ({seen.key} if seen else set())
    known.add(home_identity(home, system_bytes).public.hex())
    found = read_log(log, keys=known, head=head, seen=seen)
    remember(home, log, found.mark)
    return found


def _require_language(lang: str) -> None:
    if lang not in {"en", "zh"}:
        raise InputError(f"--lang {lang}: choose en or zh.")


def _show(
    log: "TermsLog",
    acts: "tuple[tuple[str, Act], ...]",
    *,
    lang: str,
    as_json: bool,
    dry_run: bool,
) -> None:
    from rich.table import Table

    if as_json:
        facts: dict[str, Any] = {
            "dry_run": dry_run,
            "head": log.head,
            "acts": [{"subject": subject, **asdict(act)} for subject, act in acts],
            "terms": {
                name: {
                    "grade": now.letter,
                    "limit": now.limit,
                    "premium": now.premium,
                    "frozen": now.frozen,
                }
                for name, now in log.terms.items()
            },
        }
        print_json(facts)
        return
    table = Table(title="what would change" if dry_run else f"head {log.head[:16]}...")
    for name in ("subject", "day", "what", "rule", "from", "to", "why"):
        table.add_column(name)
    for subject, act in acts:
        why = act.says if lang == "en" else act.says_zh
        day = date.fromordinal(act.day).isoformat()
        table.add_row(subject, day, act.kind, act.rule, act.before, act.after, why)
    print_rich(table)


def _days(path: Path, rules: "TermRules", *, today: date) -> "list[Day]":
    """Days of a file, none of them later than tomorrow: a day stands, and none before it counts."""
    import csv

    found: list[Day] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            known = _signals(path, reader.fieldnames or (), rules)
            for row in reader:
                where = f"{path}: line {reader.line_num}"
                found.append(_day(where, row, known, latest=today + timedelta(days=1)))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: cannot be read as UTF-8 CSV; check the path.") from None
    if not found:
        raise InputError(f"{path}: has no rows; give one for each subject and day.")
    return found


def _signals(path: Path, header: "Sequence[str]", rules: "TermRules") -> list[str]:
    """All signals of rules, where a header names some of them and nothing else."""
    known = [one.name for one in rules.signals]
    for name in header:
        if name not in {"subject", "day", *known}:
            raise InputError(
                f"{path}: column {name} is no signal of {rules.name}; take it out, raw "
                f"readings are not read here."
            )
        if header.count(name) > 1:
            raise InputError(f"{path}: column {name} is there twice; keep one.")
    if not {"subject", "day"} <= set(header) or not set(known) & set(header):
        raise InputError(
            f"{path}: its first line names subject, day and signals of {rules.name} "
            f"({', '.join(known)}); give them."
        )
    return known


def _day(
    where: str,
    row: "Mapping[str | None, str | list[str] | None]",
    known: list[str],
    *,
    latest: date,
) -> "Day":
    from clients.terms.log import Day

    if None in row or None in row.values():
        raise InputError(f"{where}: has other fields than the first line; correct it.")
    cells = {str(name): str(text) for name, text in row.items()}
    subject = cells["subject"]
    if not subject.strip() or len(subject) > _TEXT_MAX or not subject.isprintable():
        raise InputError(f"{where}: a subject has 1 to {_TEXT_MAX} printable characters; name it.")
    try:
        day = date.fromisoformat(cells["day"])
        values = {name: _finite(cells.get(name, "")) for name in known}
    except ValueError:
        raise InputError(f"{where}: expected subject, day (2026-06-30) and numbers.") from None
    if day > latest:
        raise InputError(
            f"{where}: {day} is yet to come, and no day before it would count any more; correct "
            f"the day, or this machine's clock."
        )
    return Day(subject=subject, day=day.toordinal(), values=values)


def _finite(text: str) -> float | None:
    """A cell's number; None where it is empty."""
    import math

    if not text:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
