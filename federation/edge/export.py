"""A run's model as an edge bundle: compiled, signed, and remembered by the home that made it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from clients.contract import Column, DataContract
from clients.durable_file import make_folder
from clients.indicators.plan import Plan
from clients.scoring.bundle import Bundle, ContractName, ShortCard
from clients.scoring.bundle_file import (
    MOST_BYTES,
    OpenedBundle,
    bundle_bytes,
    open_bundle,
)
from clients.scoring.compile import compiled, input_column
from clients.scoring.form import LONGEST_TEXT
from clients.scoring.readings_plan import QuantityColumn, ReadingsPlan, UnitColumn
from clients.scoring.scorer import Scorer
from clients.scoring.trust import key_fingerprint
from federation.edge.kept_bundle import SUFFIX, kept_bundle
from federation.home import Home, read_json, write_bytes
from federation.kept_identity import kept_identity
from federation.kept_model import KeptModel
from federation.spending import sentences
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.suites import SUITES

SUITE: Final = "intl"
MOST_DAYS: Final = 3650
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A bundle that was written: `signer` is what devices have to trust."""

    path: Path
    opened: OpenedBundle
    size: int


def expiry_s(told: str, now_s: int) -> int:
    """From when on a bundle is refused: so many days from now, or the end of a day, UTC.

    Raises:
        InputError: It is neither, or past.
    """
    wrong = InputError(
        f"--expires {told:.40}: expected days from now, 1 to {MOST_DAYS}, or a day to come such as "
        f"2027-12-31."
    )
    if told.isascii() and told.isdigit() and len(told) <= 9 and 1 <= int(told) <= MOST_DAYS:  # noqa: PLR2004
        return now_s + int(told) * 86_400
    if not _DAY.fullmatch(told):
        raise wrong
    try:
        day = datetime.strptime(told, "%Y-%m-%d").replace(tzinfo=UTC)
        end_s = int((day + timedelta(days=1)).timestamp())
    except (ValueError, OverflowError):
        raise wrong from None
    if end_s <= now_s:
        raise wrong
    return end_s


def thresholds_of(told: Sequence[str]) -> dict[str, float]:
    """NAME=VALUE of each.

    Raises:
        InputError: One is none, or is there twice.
    """
    found: dict[str, float] = {}
    for text in told:
        name, sign, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        named = 0 < len(name) <= LONGEST_TEXT and name.isprintable()
        if not sign or not named or not math.isfinite(number):
            raise InputError(f"--threshold {text:.80}: expected NAME=VALUE, such as review=0.2.")
        if name in found:
            raise InputError(f"--threshold {name:.80}: is there twice; keep one.")
        found[name] = number
    return found


def make_bundle(
    kept: KeptModel,
    card: ShortCard,
    *,
    made_s: int,
    expires_s: int | None,
    plan: Plan | None,
    thresholds: Mapping[str, float],
) -> Bundle:
    """Put a bundle together.

    Args:
        kept: The model.
        card: What is told of it.
        made_s: Now, seconds since 1970, UTC.
        expires_s: From when on it is refused; None: never.
        plan: How readings become the model's indicators; None: rows bring all inputs.
        thresholds: Name -> value.

    Raises:
        RefusedError: The model is of a kind that has no plain form.
    """
    contract = kept.contract
    scorer = _scorer(kept)
    columns = {one.name: one for one in contract.columns}
    return Bundle(
        task=kept.manifest.task,
        made_s=made_s,
        expires_s=expires_s,
        contract=ContractName(
            name=contract.name,
            digest=contract.digest,
            unit=contract.unit,
            title=contract.title[:LONGEST_TEXT],
        ),
        units=_units(contract),
        missing=contract.missing,
        inputs=tuple(input_column(columns[name]) for name in scorer.columns),
        scorer=scorer,
        readings=None if plan is None else _readings(plan),
        thresholds=dict(thresholds),
        card=card,
    )


def wanted_indicators(kept: KeptModel) -> tuple[str, ...]:
    """Keys of the indicators that the model reads.

    Raises:
        RefusedError: It reads none, so no reading could be of use.
    """
    columns = (kept.contract.column(name) for name in _scorer(kept).columns)
    found = tuple(one.indicator for one in columns if one.indicator is not None)
    if not found:
        raise RefusedError(
            f"{kept.run}: the model reads no registered indicator, so it cannot score readings; "
            f"leave --readings out."
        )
    return found


def short_card(kept: KeptModel, folder: Path) -> ShortCard:
    """What a bundle tells of its model.

    Raises:
        InputError: The run's result cannot be read.
    """
    result: dict[str, Any] = read_json(folder / "result.json")
    metrics = {
        str(name): float(value)
        for name, value in result["metrics"].items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }
    return ShortCard(
        run=kept.run,
        manifest=kept.manifest.digest().hex(),
        weights=kept.digest,
        members=len(result["members"]),
        metrics=metrics,
        privacy=tuple(dict.fromkeys(one[:LONGEST_TEXT] for one in sentences(result["privacy"]))),
    )


def signing_identity(home: Home, key: Path | None) -> Identity:
    """Whose signature the bundle gets: the launcher's of this home, or that of a file.

    Raises:
        InputError: It cannot be read or made.
    """
    if key is not None:
        return Identity.load(key)
    return kept_identity(home.launcher, system_bytes)


def write_bundle(home: Home, bundle: Bundle, identity: Identity, path: Path) -> Exported:
    """Sign and write a bundle, after a device's own reading of it; the home keeps a copy.

    Raises:
        InputError: The path has another ending, or cannot be written.
        RefusedError: The model is too large for a bundle.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: is no name for a bundle; end it in {SUFFIX}.")
    data = bundle_bytes(bundle, identity, SUITES[SUITE])
    if len(data) > MOST_BYTES:
        raise RefusedError(
            f"The bundle would have {len(data)} bytes, and no device reads more than {MOST_BYTES}; "
            f"train with fewer columns or levels."
        )
    signer = key_fingerprint(SUITE, identity.public)
    try:
        opened = open_bundle(data, frozenset({signer}))
    except NotVerifiedError as failure:
        raise RefusedError(f"No device could read this model: {failure}") from None
    kept = kept_bundle(home, opened.digest)
    try:
        make_folder(kept.parent, mode=0o700)
    except OSError as failure:
        raise InputError(f"{home.edge}: cannot be made ({failure.strerror}).") from None
    write_bytes(kept, data)
    write_bytes(path, data)
    return Exported(path=path, opened=opened, size=len(data))


def _scorer(kept: KeptModel) -> Scorer:
    """The plain form of a model; a further kind of model is told apart here."""
    return compiled(kept.additive())


def _units(contract: DataContract) -> tuple[UnitColumn, ...]:
    return tuple(
        UnitColumn(header=one.file_name, type=_unit_type(one)) for one in contract.unit_columns
    )


def _unit_type(column: Column) -> str:
    if column.is_numeric:
        return "number"
    return column.type


def _readings(plan: Plan) -> ReadingsPlan:
    contract = plan.contract
    return ReadingsPlan(
        contract=plan.digest,
        name=contract.name,
        time=plan.time.file_name,
        units=_units(contract),
        quantities=tuple(
            QuantityColumn(
                quantity=name,
                header=column.file_name,
                unit=column.unit,
                bounds=column.range,
                threshold=column.threshold,
            )
            for name, column in plan.inputs.items()
        ),
        indicators=plan.indicators,
        missing=contract.missing,
        step_h=plan.step_h,
        hold_h=plan.hold_h,
        window_h=plan.window_h,
        zone_h=plan.zone_h,
    )
