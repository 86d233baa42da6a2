"""A data contract: what rows mean, whom they describe, and how secret each column is.

The file form, key by key (a key without a default must be given):

    contract: 1                     the form's version
    name, title                     short name; one line for a person
    unit                            whom privacy protects: device, policyholder, borrower, ...
    unit_key: [subset, unit]        columns that name one unit together; default: the id column
    sources:                        where rows lie, in this order
      - part: all                   all (split below) | train | test
        path                        below the data root: a file, a folder, or a glob; .gz, .xz and
                                    .zip (one file inside) are read as they are
        format: csv                 csv | parquet
        separator: ","              csv: one character, or `whitespace`
        header: true                csv: false = fields stand in the contract's column order
        constants: {}               column -> value of every row of this source
        remaining_life: PATH        telemetry test rows: one number a line, the remaining life of
                                    the i-th unit (by first appearance) at its last row
    columns:
      - name                        how the product calls it; no two alike
        header                      how the file calls it; default: `name`
        type                        number | integer | category | text | time
        role: feature               id | time | feature | sensor | setting | label | exposure |
                                    member | part | group | event | gate (a number that the
                                    quality gate alone reads) | ignore (never loaded)
        class                       L1 public | L2 internal | L3 confidential | L4 secret
        unit                        physical unit, for people
        range: [low, high]          numeric features, sensors, settings; also the clip's bounds
      threshold: [low, high]      optional; numbers of devices over time: within the range, where a
                                    device normally works. Three readings in a row outside put it
                                    under review (docs/quality-gate.md)
        levels: [...]               categories; whatever is not listed, or missing, is `other`
        hash_levels: N              instead of `levels`: code = SHA-256(text) mod N
        transform: standard         standard | log1p | signed_log | quantile
        also_feature: false         a member or group column that models may use too
        indicator: NAME@VERSION     optional; a feature that is this registered indicator
                                    (docs/indicators.md), in its unit
        declared: false             an input that people state (an age, an amount), as against one
                                    that a device measures
        monotone: up | down         optional; all else equal, a higher value never lowers (up) or
                                    never raises (down) the model's output; features that are
                                    numbers (docs/explaining.md)
        note                        free text
    missing: [...]                  texts that mean missing; default "", NA, NaN, nan, null
    regime: {column, decimals: 0, levels: [...]}
                                    operating condition = round(column); an unlisted one counts
                                    as the nearest level
    members:                        absent = all rows belong to one member, named by the caller
      by: [COLUMN, {column, modulo: N}, {column, largest: N, rest: others},
           {column, edges: [...]}]  several are joined by "-"; band i holds edges[i] <= x <
                                    edges[i + 1], the last band is open above
      file: {path, key, column, members: [...], test: VALUE, separator: ","}
                                    a CSV file that names each row's member by its id; rows marked
                                    `test` belong to no member and fall to them by row number
                                    modulo the number of members
      folder: PATH                  each sub-folder or file below it is a member; sources' paths
                                    are relative to the sub-folder, or unused for a file
    split:                          for rows of part `all`
      {kind: uniform, seed, test_share} | {kind: stratified, seed, test_share} |
      {kind: folds, seed, folds} | {kind: units, seed, test_share}
    label:
      {kind: remaining_life, cap} | {kind: within_horizon, horizon} |
      {kind: binary, column, positive: 1} | {kind: value, column} |
      {kind: count, column, cap, exposure, exposure_cap}
    governance:                     optional; what rules ask of the rows, each key optional too
      purposes: [failure, claims]   tasks that the people or owners behind the rows agreed to
      retention_days: 730           days that rows may be kept after `collected`
      collected: "2026-06-30"       the day on which the newest row was collected
      place: CN                     where the rows lie, ISO 3166-1, two letters
      cross_border: false           whether rows, or what is made of them, leave that place
      important: false              whether they are important data in the sense of the law
    accepts: indicators             optional; every input must be an indicator or declared, else the
                                    contract is refused as it is read
    gate:                           optional; what is looked at in each device's readings besides
                                    ranges and thresholds, each key optional too; times are in
                                    units of the time column
      interval: 8                   usual time from one reading to the next
      longest_gap: 24               more time than this between two readings is a gap
      drift: 0.05                   share by which a device's clock may run fast or slow against
                                    `interval`
      received: COLUMN              of role gate: when the reading arrived, by the member's clock
      clock_off: 1.5                with `received`: how far a device's clock may be from it
      stuck_after: 12               so many equal readings in a row: the sensor is stuck
      may_rest: [COLUMN]            sensors that may stand still
      restarts: COLUMN              of role gate: restarts of the device since its last reading
      firmware_days: COLUMN         of role gate: age of the device's firmware, in days
      least_trust: 60               rows of devices with a lower trust score, 0 to 100, are left
                                    out; needs `interval`
      weigh_by_trust: true          rows count in training by their device's trust score; needs
                                    `interval`
"""

import hashlib
import sys
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator, model_validator

from clients import level
from clients.frozen import Frozen, nearest, read_yaml
from clients.indicators.registry import INDICATORS
from clients.spec import Task
from privacy.canonical import canonical_json

OTHER: Final = level.OTHER
level_text = level.level_text
DEFAULT_MISSING: Final = ("", "NA", "NaN", "nan", "null")
DataClass = Literal["L1", "L2", "L3", "L4"]
ColumnType = Literal["number", "integer", "category", "text", "time"]
Transform = Literal["standard", "log1p", "signed_log", "quantile"]
Role = Literal[
    "id",
    "time",
    "feature",
    "sensor",
    "setting",
    "label",
    "exposure",
    "member",
    "part",
    "group",
    "event",
    "gate",
    "ignore",
]
MODEL_INPUTS: Final = frozenset({"feature", "sensor", "setting"})


def _levels(value: object) -> object:
    if isinstance(value, tuple):
        if any(isinstance(item, bool) for item in value):
            raise ValueError("expected texts or numbers; put quotes around yes, no, true, false")
        if all(isinstance(item, (str, int, float)) for item in value):
            return tuple(level_text(item) for item in value)
    return value


def _interval(value: object) -> object:
    message = "expected two numbers, low before high"
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004 - low and high
        raise ValueError(message)
    low, high = value
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueError only
        if not abs(bound) <= sys.float_info.max:  # whole numbers may be larger than any float
            raise ValueError(message)
    if not low < high:
        raise ValueError(message)
    return float(low), float(high)


def _below_root(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or "\0" in path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError("expected a path below the data root, without .. and with / between")
    return path


def _separator(text: str) -> str:
    if text != "whitespace" and (len(text) != 1 or text in '"\r\n' or not text.isascii()):
        raise ValueError('expected one character such as "," or the word whitespace')
    return text


def _ascending(edges: tuple[float, ...]) -> tuple[float, ...]:
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise ValueError("expected one number or more, each above the one before")
    return edges


def _by_column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(gt=0, lt=1)]
Interval = Annotated[tuple[float, float], BeforeValidator(_interval)]
Constant: TypeAlias = str | int | float


class Column(Frozen):
    """One column: what it is, what it may hold, how secret it is."""

    name: Name
    header: Name | None = None
    type: ColumnType
    role: Role = "feature"
    data_class: DataClass = Field(alias="class")
    unit: str | None = None
    range: Interval | None = None
    threshold: Interval | None = None
    levels: Annotated[tuple[str, ...] | None, BeforeValidator(_levels)] = None
    hash_levels: Annotated[int, Field(ge=2, le=65536)] | None = None
    transform: Transform = "standard"
    also_feature: bool = False
    indicator: str | None = None
    declared: bool = False
    monotone: Literal["up", "down"] | None = None
    note: str | None = None

    @field_validator("name")
    @classmethod
    def _not_ours(cls, name: str) -> str:
        if name.startswith("__"):
            raise ValueError("names that begin with __ are the product's own; choose another")
        return name

    @field_validator("levels")
    @classmethod
    def _levels_make_sense(cls, levels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if levels is None:
            return None
        if not levels or len(set(levels)) != len(levels):
            raise ValueError("expected one level or more, no two alike")
        if OTHER in levels:
            raise ValueError("leave `other` out; it is added by itself")
        return levels

    @model_validator(mode="after")
    def _type_fits(self) -> Self:
        grouped = self.levels is not None or self.hash_levels is not None
        if self.type != "category" and grouped:
            raise ValueError(f"a {self.type} column has no levels; make its type category")
        if self.levels is not None and self.hash_levels is not None:
            raise ValueError("give levels or hash_levels, not both")
        if self.type in {"category", "text"} and self.range is not None:
            raise ValueError(f"a {self.type} column has no range; remove it")
        if self.is_input and self.type == "category" and not grouped:
            raise ValueError("a category needs levels, or hash_levels for an open vocabulary")
        if self.is_input and self.type == "text":
            raise ValueError("text is no model input; make it a category, or its role ignore")
        if self.is_input and self.is_numeric and self.range is None:
            raise ValueError("range is missing; give two numbers, low before high")
        return self

    @model_validator(mode="after")
    def _threshold_fits(self) -> Self:
        if self.threshold is None:
            return self
        if not self.is_numeric or self.role in {"time", "ignore"}:
            raise ValueError("a threshold is for numbers that are read; remove it")
        if self.range is not None:
            (low, high), (least, most) = self.threshold, self.range
            if low < least or high > most:
                raise ValueError("the threshold must lie within the range; make it narrower")
        return self

    @model_validator(mode="after")
    def _role_fits(self) -> Self:
        if self.role in {"sensor", "setting", "exposure", "event", "gate"} and not self.is_numeric:
            raise ValueError(f"a column of role {self.role} is a number or an integer")
        if self.role != "ignore" and (self.role == "time") != (self.type == "time"):
            raise ValueError("role time and type time belong together")
        if self.role == "group" and self.levels is None:
            raise ValueError("a group column is a category with levels")
        if self.role == "part" and self.is_numeric:
            raise ValueError("a column of role part holds the texts train and test")
        if self.role == "id" and self.type == "number":
            raise ValueError("an id is an integer, a text or a category")
        if self.also_feature and self.role not in {"member", "group"}:
            raise ValueError("also_feature is for columns of role member or group")
        return self

    @model_validator(mode="after")
    def _indicator_fits(self) -> Self:
        if self.declared and (not self.is_input or self.role in {"sensor", "setting"}):
            raise ValueError("declared is for features; a sensor or setting is measured")
        if self.indicator is None:
            return self
        known = INDICATORS.get(self.indicator)
        if known is None:
            guess = nearest(self.indicator, INDICATORS)
            advice = f"did you mean {guess}" if guess else "tacit data indicators list has all"
            raise ValueError(f"indicator: there is no {self.indicator}; {advice}")
        if self.declared:
            raise ValueError("an indicator is computed, not declared; keep one of the two")
        if self.role != "feature" or not self.is_numeric:
            raise ValueError(f"indicator: {known.name} is a feature that is a number")
        if self.unit != known.unit:
            raise ValueError(f'indicator: {known.name} has the unit "{known.unit}"; say so')
        return self

    @model_validator(mode="after")
    def _monotone_fits(self) -> Self:
        if self.monotone is None:
            return self
        if not self.is_input or not self.is_numeric:
            raise ValueError("monotone is for inputs that are numbers; remove it")
        if self.role in {"sensor", "setting"}:
            raise ValueError("monotone is for features; no curve is made of a sensor or setting")
        return self

    @property
    def is_numeric(self) -> bool:
        """Whether values are read as float64."""
        return self.type in {"number", "integer", "time"} and self.role != "id"

    @property
    def is_input(self) -> bool:
        """Whether a model may use it."""
        return self.role in MODEL_INPUTS or self.also_feature

    @property
    def is_stated(self) -> bool:
        """Whether the contract says that it is an indicator, or declared."""
        return self.indicator is not None or self.declared

    @property
    def file_name(self) -> str:
        """How a file's header calls this column."""
        return self.header or self.name

    @property
    def bounds(self) -> tuple[float, float]:
        """The range.

        Raises:
            ValueError: The column has none.
        """
        if self.range is None:
            raise ValueError(f"column {self.name} has no range")
        return self.range

    @property
    def categories(self) -> tuple[str, ...]:
        """All levels that rows can show, in code order; `other` is last. Empty: read as text."""
        if self.role == "id":
            return ()
        if self.hash_levels is not None:
            return (*(str(code) for code in range(self.hash_levels)), OTHER)
        return (*self.levels, OTHER) if self.levels is not None else ()

    def hash_code(self, text: str) -> int:
        """SHA-256(UTF-8 text) as a big-endian integer, mod `hash_levels`."""
        if self.hash_levels is None:
            raise ValueError("the column has listed levels")
        return level.hash_code(text, self.hash_levels)


class Source(Frozen):
    """Where some of the rows lie."""

    part: Literal["all", "train", "test"] = "all"
    path: str
    format: Literal["csv", "parquet"] = "csv"
    separator: str = ","
    header: bool = True
    constants: dict[str, Constant] = Field(default_factory=dict)
    remaining_life: str | None = None

    @field_validator("path", "remaining_life")
    @classmethod
    def _inside(cls, path: str | None) -> str | None:
        return None if path is None else _below_root(path)

    @field_validator("separator")
    @classmethod
    def _one(cls, text: str) -> str:
        return _separator(text)

    @model_validator(mode="after")
    def _life_is_for_test_rows(self) -> Self:
        if self.remaining_life is not None and self.part != "test":
            raise ValueError("remaining_life is for a source of part test")
        return self


class MemberColumn(Frozen):
    """One piece of a member's name."""

    column: str
    modulo: Annotated[int, Field(ge=2, le=1000)] | None = None
    largest: Annotated[int, Field(ge=1, le=1000)] | None = None
    rest: Word = "others"
    edges: tuple[float, ...] | None = None

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if edges is None else _ascending(edges)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        rules = (self.modulo, self.largest, self.edges)
        if sum(rule is not None for rule in rules) > 1:
            raise ValueError("give one of modulo, largest and edges")
        if self.largest is None and "rest" in self.model_fields_set:
            raise ValueError("rest belongs to largest; remove it")
        return self


class MemberFile(Frozen):
    """A CSV file with a header that names each row's member by the row's id."""

    path: str
    key: Name
    column: Name
    members: Annotated[tuple[Word, ...], Field(min_length=1)]
    test: str | None = None
    separator: str = ","

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        return _below_root(path)

    @field_validator("separator")
    @classmethod
    def _one(cls, text: str) -> str:
        return _separator(text)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.members)) != len(self.members) or self.test in self.members:
            raise ValueError("members and test must differ from each other")
        return self


class Members(Frozen):
    """How rows fall to members: exactly one of three ways."""

    by: (
        Annotated[
            tuple[Annotated[MemberColumn, BeforeValidator(_by_column)], ...], Field(min_length=1)
        ]
        | None
    ) = None
    file: MemberFile | None = None
    folder: str | None = None

    @field_validator("folder")
    @classmethod
    def _inside(cls, path: str | None) -> str | None:
        return None if path is None else _below_root(path)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.by, self.file, self.folder)) != 1:
            raise ValueError("expected exactly one of by, file and folder")
        return self


class UniformSplit(Frozen):
    """Test rows are those with numpy RandomState(seed).rand(rows) < test_share, in file order."""

    kind: Literal["uniform"]
    seed: Seed
    test_share: Share


class StratifiedSplit(Frozen):
    """scikit-learn's train_test_split over all rows, stratified by the label column."""

    kind: Literal["stratified"]
    seed: Seed
    test_share: Share


class FoldSplit(Frozen):
    """scikit-learn's shuffled StratifiedKFold over all rows; a run names the fold."""

    kind: Literal["folds"]
    seed: Seed
    folds: Annotated[int, Field(ge=2, le=100)]


class UnitSplit(Frozen):
    """A unit is a test unit if SHA-256("seed|unit") / 2**256 < test_share: all its rows, or none.

    It depends on nothing but the unit's own name, so rows may come or go without moving others.
    """

    kind: Literal["units"]
    seed: Seed
    test_share: Share


Split = Annotated[
    UniformSplit | StratifiedSplit | FoldSplit | UnitSplit, Field(discriminator="kind")
]


class RemainingLife(Frozen):
    """Time left of a unit: its last time minus this time; plus the file's figure at test."""

    kind: Literal["remaining_life"]
    cap: Annotated[float, Field(gt=0)]


class WithinHorizon(Frozen):
    """Whether the unit fails within (t, t + horizon], in units of the time column.

    A failure is a row of the event column with 1 or, where there is no such column, the end of
    the unit's record.
    """

    kind: Literal["within_horizon"]
    horizon: Annotated[float, Field(gt=0)]


class Binary(Frozen):
    """Whether the label column holds `positive`."""

    kind: Literal["binary"]
    column: Name
    positive: Constant = 1


class Count(Frozen):
    """A count over an exposure."""

    kind: Literal["count"]
    column: Name
    cap: Annotated[float, Field(gt=0)] | None = None
    exposure: Name | None = None
    exposure_cap: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _cap_needs_exposure(self) -> Self:
        if self.exposure_cap is not None and self.exposure is None:
            raise ValueError("exposure_cap needs exposure; name the column")
        return self


class Value(Frozen):
    """The label column itself."""

    kind: Literal["value"]
    column: Name


Label = Annotated[
    RemainingLife | WithinHorizon | Binary | Count | Value, Field(discriminator="kind")
]


class Regime(Frozen):
    """Operating condition: a rounded setting."""

    column: Name
    decimals: Annotated[int, Field(ge=0, le=6)] = 0
    levels: tuple[float, ...]

    @field_validator("levels")
    @classmethod
    def _rising(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        return _ascending(levels)

    def index(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Index into `levels` of each value's condition: the nearest level, 0 where missing."""
        levels = np.asarray(self.levels)
        rounded = np.round(np.nan_to_num(values, nan=levels[0]), self.decimals)
        middles = (levels[1:] + levels[:-1]) / 2
        return np.searchsorted(middles, rounded, side="left").astype(np.int64)


class Governance(Frozen):
    """What the owner of rows says about their use; None where it says nothing.

    It is what rules look at (`federation.compliance`), never what a model sees.

    Attributes:
        purposes: Tasks that the rows may serve, as consented to.
        retention_days: How long rows may be kept after `collected`.
        collected: ISO 8601 day on which the newest row was collected.
        place: ISO 3166-1 alpha-2 code of where the rows lie.
        cross_border: Whether rows, or what is made of them, leave that place.
        important: Whether they are important data (Data Security Law, Article 21).
    """

    purposes: Annotated[tuple[Task, ...], Field(min_length=1)] | None = None
    retention_days: Annotated[int, Field(ge=1, le=36_525)] | None = None
    collected: str | None = None
    place: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    cross_border: bool | None = None
    important: bool | None = None

    @field_validator("purposes")
    @classmethod
    def _a_set(cls, purposes: tuple[Task, ...] | None) -> tuple[Task, ...] | None:
        if purposes is None:
            return None
        if len(set(purposes)) != len(purposes):
            raise ValueError("a purpose is there twice; keep one")
        return tuple(sorted(purposes))

    @field_validator("collected")
    @classmethod
    def _a_day(cls, text: str | None) -> str | None:
        try:
            # fromisoformat also takes 20260630, and one day has one spelling here
            plain = text is None or date.fromisoformat(text).isoformat() == text
        except ValueError:
            plain = False
        if not plain:
            raise ValueError('expected a day in quotes, such as "2026-06-30"')
        return text

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("says nothing; give it a key such as purposes, or leave it out")
        return self

    @property
    def kept_until(self) -> date | None:
        """The last day on which rows may be kept; None where the contract does not say."""
        if self.collected is None or self.retention_days is None:
            return None
        return date.fromisoformat(self.collected) + timedelta(days=self.retention_days)


class GateRules(Frozen):
    """What is looked at in each device's readings besides ranges and thresholds.

    Attributes:
        interval: Usual time from one reading to the next.
        longest_gap: More time than this between two readings is a gap.
        drift: Share by which a device's median time between readings may differ from `interval`.
        received: The column that says when a reading arrived.
        clock_off: How far a device's median clock may be from `received`.
        stuck_after: So many equal readings in a row of a sensor are too many.
        may_rest: Sensors that may stand still.
        restarts: The column of restarts since the device's last reading.
        firmware_days: The column of the firmware's age.
        least_trust: Devices with a lower trust score are left out.
        weigh_by_trust: Whether rows count in training by their device's trust score.
    """

    interval: Annotated[float, Field(gt=0)] | None = None
    longest_gap: Annotated[float, Field(gt=0)] | None = None
    drift: Annotated[float, Field(gt=0, lt=1)] | None = None
    received: Name | None = None
    clock_off: Annotated[float, Field(gt=0)] | None = None
    stuck_after: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    may_rest: tuple[Name, ...] | None = None
    restarts: Name | None = None
    firmware_days: Name | None = None
    least_trust: Annotated[float, Field(gt=0, le=100)] | None = None
    weigh_by_trust: Literal[True] | None = None

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("says nothing; give it a key such as longest_gap, or leave it out")
        if self.drift is not None and self.interval is None:
            raise ValueError("drift needs interval; say how often a device reports")
        for name in ("least_trust", "weigh_by_trust"):
            if getattr(self, name) is not None and self.interval is None:
                # a pace taken from other devices would tie one device's rows to another's
                raise ValueError(f"{name} needs interval; say how often a device reports")
        if (self.clock_off is None) != (self.received is None):
            raise ValueError("received and clock_off belong together")
        if self.may_rest is not None and self.stuck_after is None:
            raise ValueError("may_rest belongs to stuck_after; remove it")
        return self


class DataContract(Frozen):
    """What rows mean. Equal contracts have equal digests, however their files are laid out."""

    contract: Literal[1]
    name: Word
    title: str = ""
    unit: Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}$")]
    unit_key: tuple[str, ...] | None = None
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    missing: tuple[str, ...] = DEFAULT_MISSING
    regime: Regime | None = None
    members: Members | None = None
    split: Split | None = None
    label: Label
    governance: Governance | None = None
    gate: GateRules | None = None
    accepts: Literal["indicators"] | None = None

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        self._check_columns()
        self._check_references()
        self._check_label()
        self._check_members()
        self._check_split()
        self._check_gate()
        self._check_accepts()
        return self

    def _check_columns(self) -> None:
        for taken in ("name", "file_name"):
            seen: set[str] = set()
            for place, column in enumerate(self.columns):
                name = getattr(column, taken)
                if name in seen:
                    raise ValueError(f"columns[{place}]: {name} is there twice; keep one")
                seen.add(name)
        for role in ("id", "time", "label", "exposure", "part", "group", "event"):
            if len(self.by_role(role)) > 1:
                raise ValueError(f"columns: two have role {role}; one may")
        if not self.inputs and not self.is_telemetry:
            raise ValueError("columns: none is a feature; a model needs one")

    def _check_references(self) -> None:
        for place, source in enumerate(self.sources):
            for name, value in source.constants.items():
                column = self._known(name, f"sources[{place}].constants")
                if column.is_numeric and isinstance(value, str):
                    raise ValueError(f"sources[{place}].constants.{name}: expected a number")
            if source.remaining_life is not None and not self.is_telemetry:
                raise ValueError(
                    f"sources[{place}].remaining_life: needs label kind remaining_life or "
                    f"within_horizon"
                )
        for place, name in enumerate(self.unit_key or ()):
            column = self._known(name, f"unit_key[{place}]")
            if column.role == "ignore":
                raise ValueError(f"unit_key[{place}]: column {name} has role ignore; change it")
        if self.regime is not None and not self._known(self.regime.column, "regime").is_numeric:
            raise ValueError(f"regime.column: {self.regime.column} is no numeric column")

    def _check_label(self) -> None:
        label = self.label
        if isinstance(label, (RemainingLife, WithinHorizon)):
            for role in ("id", "time", "sensor"):
                if not self.by_role(role):
                    raise ValueError(
                        f"columns: label kind {label.kind} needs a column of role {role}"
                    )
            return
        column = self._known(label.column, "label.column")
        if column.role != "label":
            raise ValueError(f"label.column: give column {column.name} the role label")
        if isinstance(label, Binary):
            if column.is_numeric and isinstance(label.positive, str):
                raise ValueError(f"label.positive: {column.name} holds numbers; give a number")
            return
        if not column.is_numeric:
            raise ValueError(f"label.column: {column.name} must be a number or an integer")
        if isinstance(label, Value) and column.range is None:
            raise ValueError(f"label.column: {column.name} needs a range, which sets its scale")
        if isinstance(label, Count):
            self._check_exposure(label)

    def _check_exposure(self, label: Count) -> None:
        if label.exposure is None:
            return
        if self._known(label.exposure, "label.exposure").role != "exposure":
            raise ValueError(f"label.exposure: give column {label.exposure} the role exposure")

    def _check_members(self) -> None:
        if self.members is None:
            return
        for place, rule in enumerate(self.members.by or ()):
            where = f"members.by[{place}].column"
            column = self._known(rule.column, where)
            if column.role == "ignore":
                raise ValueError(f"{where}: {column.name} has role ignore; make it member")
            if rule.modulo is not None and column.type != "integer":
                raise ValueError(f"{where}: modulo needs an integer column")
            if rule.edges is not None and not column.is_numeric:
                raise ValueError(f"{where}: edges need a numeric column")
        if self.members.file is not None and not self.unit_columns:
            raise ValueError("members.file: needs a column of role id")

    def _check_split(self) -> None:
        whole = any(source.part == "all" for source in self.sources)
        if self.split is None:
            if whole and not self._told_part:
                raise ValueError(
                    "split: is missing; add for example {kind: units, seed: 0, test_share: 0.25}"
                )
            return
        if not whole:
            raise ValueError("split: no source has part all; remove split")
        if self._told_part:
            raise ValueError("split: a column or the members file tells the parts; remove split")
        if isinstance(self.split, UnitSplit) and not self.unit_columns:
            raise ValueError("split: kind units needs a column of role id")
        stratified = isinstance(self.split, (StratifiedSplit, FoldSplit))
        if stratified and not isinstance(self.label, Binary):
            raise ValueError(f"split: kind {self.split.kind} needs label kind binary")

    def _check_gate(self) -> None:
        if not self.is_gated:
            return
        if self.time_column is None or not self.unit_columns:
            what = "gate" if self.gate is not None else "threshold"
            raise ValueError(f"{what}: needs a column of role id and one of role time")
        gate = self.gate or GateRules.model_construct()
        for key in ("received", "restarts", "firmware_days"):
            name = getattr(gate, key)
            if name is not None and self._known(name, f"gate.{key}").role != "gate":
                raise ValueError(f"gate.{key}: give column {name} the role gate")
        for place, name in enumerate(gate.may_rest or ()):
            if self._known(name, f"gate.may_rest[{place}]").role != "sensor":
                raise ValueError(f"gate.may_rest[{place}]: {name} is no sensor")

    def _check_accepts(self) -> None:
        if self.accepts is None:
            return
        if self.is_telemetry:
            raise ValueError("accepts: readings over time are no indicators; remove it")
        for place, column in enumerate(self.columns):
            if column.is_input and not column.is_stated:
                raise ValueError(
                    f"columns[{place}]: {column.name} is neither an indicator nor declared, and "
                    f"the contract accepts no other input; make an indicator of it, or its role "
                    f"ignore"
                )

    @property
    def _told_part(self) -> bool:
        """Whether a column, or the members' file, says which rows test."""
        file = self.members.file if self.members is not None else None
        return bool(self.by_role("part")) or (file is not None and file.test is not None)

    def _known(self, name: str, where: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        guess = nearest(name, (column.name for column in self.columns))
        hint = f"; did you mean {guess}" if guess else ""
        raise ValueError(f"{where}: the contract has no column {name}{hint}")

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            KeyError: There is none.
        """
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    def by_role(self, *roles: str) -> tuple[Column, ...]:
        """Columns of these roles, in the contract's order."""
        return tuple(column for column in self.columns if column.role in roles)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """What a model may use: features, sensors, settings, and `also_feature` columns."""
        return tuple(column for column in self.columns if column.is_input)

    @property
    def features(self) -> tuple[Column, ...]:
        """Inputs that are neither sensors nor settings."""
        return tuple(c for c in self.inputs if c.role not in {"sensor", "setting"})

    @property
    def is_telemetry(self) -> bool:
        """Whether rows are readings of devices over time."""
        return isinstance(self.label, (RemainingLife, WithinHorizon))

    @property
    def is_gated(self) -> bool:
        """Whether the quality gate may leave rows out: without, nothing of it is even read."""
        return self.gate is not None or bool(self.watched)

    @property
    def watched(self) -> tuple[Column, ...]:
        """The columns whose readings can put a device under review."""
        return tuple(column for column in self.columns if column.threshold is not None)

    @property
    def parts_are_told(self) -> bool:
        """Whether the data says which rows test, so that one name in both parts is two devices."""
        return self.split is None

    @property
    def time_column(self) -> Column | None:
        """Order within a unit."""
        return next(iter(self.by_role("time")), None)

    @property
    def label_column(self) -> Column | None:
        """What the label is made of, outside telemetry."""
        return next(iter(self.by_role("label")), None)

    @property
    def group_column(self) -> Column | None:
        """By which metrics are also reported singly; its `levels` are the groups."""
        return next(iter(self.by_role("group")), None)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names that metrics are also reported by; none without a group column."""
        column = self.group_column
        return column.levels or () if column is not None else ()

    @property
    def unit_columns(self) -> tuple[Column, ...]:
        """The columns that name one unit together; empty: each row is a unit of its own."""
        if self.unit_key is not None:
            return tuple(self.column(name) for name in self.unit_key)
        return self.by_role("id")

    @property
    def has_life_file(self) -> bool:
        """Whether test units' records are cut off, with a file that says what was left."""
        return any(source.remaining_life is not None for source in self.sources)

    @property
    def digest(self) -> str:
        """SHA-256, hex, over the contract's canonical JSON; later keys count as far as they say.

        A contract without `governance`, `gate`, `accepts`, thresholds and columns that are
        indicators, declared or monotone has the digest that it had before there were these keys.
        """
        said = self.model_dump(
            mode="json", by_alias=True, exclude={"governance", "gate", "accepts"}
        )
        for column in said["columns"]:
            if column["indicator"] is None:
                del column["indicator"]
            if not column["declared"]:
                del column["declared"]
            for name in ("threshold", "monotone"):
                if column[name] is None:
                    del column[name]
        for name, section in (("governance", self.governance), ("gate", self.gate)):
            if section is not None:
                said[name] = section.model_dump(mode="json", exclude_none=True)
        if self.accepts is not None:
            said["accepts"] = self.accepts
        return hashlib.sha256(b"tacit/contract/v1\0" + canonical_json(said)).hexdigest()


def load_contract(path: Path) -> DataContract:
    """Read a data contract.

    Raises:
        InputError: One sentence that names the file, the key and what is expected.
    """
    return read_yaml(DataContract, path)


ROLES: Final[tuple[str, ...]] = get_args(Role)
