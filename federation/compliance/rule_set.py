"""Sets of rules: shipped by name, or a person's own file."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from clients.frozen import nearest, read_yaml
from federation.compliance.rule import Rule, RuleFile
from privacy.canonical import canonical_json
from privacy.errors import InputError

DEFAULT: Final = "baseline"
HOME_FILE: Final = "rules.yaml"
_FEDERATION = Path(__file__).parents[1]
_PACKAGED = _FEDERATION / "rules_data"
_CHECKOUT = _FEDERATION.parent / "configs" / "rules"


def shipped_folder() -> Path:
    """Where the shipped sets lie: beside the code in a wheel, in `configs/rules` of a checkout.

    Raises:
        InputError: In neither.
    """
    for folder in (_PACKAGED, _CHECKOUT):
        if (folder / f"{DEFAULT}.yaml").is_file():
            return folder
    raise InputError(f"{_PACKAGED}: the shipped rules are missing; install tacit-fl again.")


def shipped_sets(folder: Path | None = None) -> tuple[str, ...]:
    """Names of the shipped sets, sorted."""
    return tuple(sorted(path.stem for path in (folder or shipped_folder()).glob("*.yaml")))


def load_rules(
    chosen: str | Path | None = None, *, home: Path | None = None, folder: Path | None = None
) -> tuple[Rule, ...]:
    """Read a set of rules, with those that it builds on before its own.

    Args:
        chosen: A shipped set's name, or a rule file (a path with / or .yaml); None: the home's
            `rules.yaml` where there is one, else `DEFAULT`.
        home: The home's folder.
        folder: Where sets lie that are called by name; None: the shipped ones.

    Raises:
        InputError: There is no such set or file, or it cannot be used; says which key and why.
    """
    sets = folder or shipped_folder()
    if chosen is None and home is not None and (home / HOME_FILE).exists():
        path = home / HOME_FILE
    else:
        path = _path(chosen or DEFAULT, sets)
    return _read(path, sets, ())


def rules_digest(rules: Iterable[Rule]) -> str:
    """SHA-256, hex, over the rules' canonical JSON, whatever their order."""
    said = [rule.model_dump(mode="json", by_alias=True) for rule in rules]
    said.sort(key=lambda rule: str(rule["id"]))
    return hashlib.sha256(b"tacit/rules/v1\0" + canonical_json(said)).hexdigest()


def _path(chosen: str | Path, sets: Path) -> Path:
    text = str(chosen)
    if isinstance(chosen, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return Path(chosen)
    return _named(text, sets, "--rules")


def _named(name: str, sets: Path, where: str) -> Path:
    known = shipped_sets(sets)
    if name not in known:
        guess = nearest(name, known)
        advice = f"did you mean {guess}?" if guess else f"choose {', '.join(known)} or a file."
        raise InputError(f"{where}: there is no set of rules {name}; {advice}")
    return sets / f"{name}.yaml"


def _read(path: Path, sets: Path, above: Sequence[str]) -> tuple[Rule, ...]:
    file = read_yaml(RuleFile, path)
    base: tuple[Rule, ...] = ()
    if file.builds_on is not None:
        if file.builds_on in above:
            raise InputError(f"{path}: builds_on: {file.builds_on} builds on this; remove one.")
        below = _named(file.builds_on, sets, f"{path}: builds_on")
        base = _read(below, sets, (*above, file.builds_on))
    ids = [rule.id for rule in (*base, *file.rules)]
    for rule_id in ids:
        if ids.count(rule_id) > 1:
            raise InputError(f"{path}: rules: {rule_id} is there twice; give one another id.")
    changeable = [rule.id for rule in base]
    for rule_id in file.severity:
        if rule_id not in changeable:
            guess = nearest(rule_id, changeable)
            advice = f"did you mean {guess}?" if guess else "see tacit rules list."
            raise InputError(f"{path}: severity: {file.builds_on} has no rule {rule_id}; {advice}")
    changed = [
        rule.model_copy(update={"severity": file.severity.get(rule.id, rule.severity)})
        for rule in base
    ]
    return (*changed, *file.rules)
