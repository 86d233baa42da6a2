"""`tacit data indicators` and `tacit data lineage`: from readings to indicators, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.finite import Finite
from federation.cli.output import AsJson, print_json, print_rich
from federation.cli.run import Data
from privacy.errors import InputError, NotVerifiedError

if TYPE_CHECKING:
    from clients.indicators.lineage import Lineage, Step

app = typer.Typer(no_args_is_help=True)

Contract = Annotated[Path, typer.Argument(help="The data contract (YAML) of the telemetry.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="QUANTITY=COLUMN, where a column has another name."),
]
DeviceKey = Annotated[
    str, typer.Option("--device-key", help="Columns that name a device, with commas.")
]
Window = Annotated[
    str | None, typer.Option(help="Such as 30d; default: each device's whole record.")
]
StepLength = Annotated[
    str | None, typer.Option(help="How long one unit of the time column lasts, such as 8h.")
]
Hold = Annotated[
    str | None, typer.Option(help="For how long a reading stands at most, such as 10min.")
]
Zone = Annotated[
    float,
    typer.Option(click_type=Finite(-14, 14), help="Hours from the time column to local time."),
]


@app.command("list")
def list_indicators(
    lang: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en", as_json: AsJson = False
) -> None:
    """List the indicators: unit, what each says, which quantities it needs."""
    from clients.indicators.registry import INDICATORS, registry_digest
    from federation.indicator_tables import indicators_facts, indicators_table

    if lang not in {"en", "zh"}:
        raise InputError(f"--lang {lang}: choose en or zh.")
    if as_json:
        facts = indicators_facts(INDICATORS.values())
        print_json({"digest": registry_digest(), "indicators": facts})
    else:
        print_rich(indicators_table(INDICATORS.values(), chinese=lang == "zh"))


@app.command()
def compute(
    contract: Contract,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Table to write (.csv or .parquet), open, wherever you say."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Keep it in this home, by a name; of L3 data it is sealed."),
    ] = None,
    data: Data = None,
    choose: Annotated[
        str, typer.Option("--choose", help="Names, with commas; all: those whose inputs are there.")
    ] = "all",
    inputs: Inputs = None,
    device_key: DeviceKey = "",
    member: Annotated[
        str | None, typer.Option(help="Of this member's rows alone; default: all here.")
    ] = None,
    window: Window = None,
    as_of: Annotated[
        float | None,
        typer.Option(
            "--as-of",
            click_type=Finite(),
            help="End of the window, as in the time column; default: each's.",
        ),
    ] = None,
    step: StepLength = None,
    hold: Hold = None,
    zone: Zone = 0.0,
    as_json: AsJson = False,
) -> None:
    """Compute indicators of each device; a lineage and a contract's draft are written beside."""
    from clients.contract import load_contract
    from clients.indicators.compute import compute_indicators
    from clients.indicators.plan import make_plan
    from clients.indicators.table_file import table_format, write_table
    from clients.rows_digest import rows_key
    from federation.config import data_root
    from federation.gate_here import left_out_here
    from federation.home import open_home
    from federation.indicator_tables import written_facts, written_table
    from federation.kept_tables import keep_table
    from privacy.randomness import system_bytes

    if (out is None) == (keep is None):
        raise InputError("say --out FILE or --keep NAME, one of the two.")
    if out is not None:
        table_format(out)
    known = load_contract(contract)
    plan = make_plan(
        known,
        words(choose),
        inputs=dict(pair(text) for text in inputs or ()),
        device_key=words(device_key),
        step=step,
        hold=hold,
        window=window,
        as_of=as_of,
        zone_h=zone,
    )
    home = open_home()
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = rows_key(home.root, system_bytes)
    root, given = data_root(data), plan.given
    with left_out_here(home, given, root, member=member, key=key) as left_out:
        table = compute_indicators(plan, root, key=key, member=member, left_out=left_out)
    if out is not None:
        written = write_table(table, out)
    else:
        written = keep_table(home, keep or "", table, known, system_bytes)
    if as_json:
        print_json(written_facts(table, written))
    else:
        print_rich(written_table(table, written))


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A table that compute --keep kept.")],
    out: Annotated[Path, typer.Option("--out", help="Table to write (.csv), open.")],
    as_json: AsJson = False,
) -> None:
    """Write a kept table and its lineage, open, to a place that you choose."""
    from federation.home import open_home
    from federation.kept_tables import export_table
    from privacy.randomness import system_bytes

    export_table(open_home(), name, out, system_bytes)
    if as_json:
        print_json({"table": str(out)})
    else:
        print_rich(f"{out}: written open; it names each device, so guard it as its rows.")


def lineage(
    table: Annotated[
        Path,
        typer.Argument(
            help="A table of indicators (kept:NAME for a kept one), or of scores "
            "(tacit model predict)."
        ),
    ],
    which: Annotated[
        str, typer.Argument(help="A device's name, or a row's number from 1; of scores, the unit.")
    ],
    indicator: Annotated[str | None, typer.Option(help="Of this indicator alone.")] = None,
    contract: Annotated[
        Path | None,
        typer.Option("--contract", help="Compute it again from the rows of this contract."),
    ] = None,
    data: Data = None,
    member: Annotated[
        str | None, typer.Option(help="Of this member's rows alone; default: all here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk from an indicator or a score back to transforms, model, run, contract and rows.

    With --contract and --data the rows are read again: exit 1 if they, or a value, are others.
    """
    from federation.scoring import scores_path

    scores = scores_path(table).exists()
    if scores:
        why = f"{table} is a table of scores; take one of indicators"
        _require_none({"--indicator": indicator, "--member": member}, why)
    if contract is None:
        why = "no rows are read again without --contract FILE; add it"
        _require_none({"--data": data, "--member": member}, why)
    if scores:
        _score_lineage(table, which, contract, data, as_json=as_json)
        return
    from clients.indicators.lineage import read_lineage, trace
    from federation.home import open_home
    from federation.indicator_tables import lineage_facts, lineage_tree
    from federation.kept_tables import KEPT, kept_table, opener
    from privacy.randomness import system_bytes

    read = opener(open_home(), system_bytes)
    if str(table).startswith(KEPT):
        table = kept_table(open_home(), str(table).removeprefix(KEPT))
    steps = trace(table, which, indicator=indicator, read=read)
    again = contract is not None
    told = read_lineage(table, read=read)
    if contract is not None:
        _require_same(told, steps, contract, data, member)
    if as_json:
        print_json(lineage_facts(steps, again=again, left_out=told.left_out))
    else:
        print_rich(lineage_tree(steps, again=again, left_out=told.left_out))


def _require_none(given: Mapping[str, object], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name}: {why}, or leave {name} out.")


def _score_lineage(
    table: Path, unit: str, contract: Path | None, data: Path | None, *, as_json: bool
) -> None:
    from clients.rows_digest import rows_key
    from federation.config import data_root
    from federation.home import open_home
    from federation.score_lineage import require_same_score, score_steps, score_tree
    from privacy.randomness import system_bytes

    home = open_home()
    steps = score_steps(home, table, unit)
    if contract is not None:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = rows_key(home.root, system_bytes)
        require_same_score(home, table, steps, contract, data_root(data), key=key)
        steps = {**steps, "computed_again": True}
    if as_json:
        print_json(steps)
    else:
        print_rich(score_tree(steps))


def _require_same(
    told: "Lineage",
    steps: "tuple[Step, ...]",
    contract: Path,
    data: Path | None,
    member: str | None,
) -> None:
    from clients.contract import load_contract
    from clients.indicators.compute import compute_indicators
    from clients.indicators.lineage import plan_again
    from clients.left_out import left_out_again
    from clients.rows_digest import rows_key
    from federation.config import data_root
    from federation.home import open_home
    from privacy.randomness import system_bytes

    home = open_home()
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    plan = plan_again(told, load_contract(contract))
    key = rows_key(home.root, system_bytes)
    now = compute_indicators(
        plan,
        data_root(data),
        key=key,
        member=member,
        left_out=left_out_again(told.left_out, plan.given, key),
    )
    device = steps[0].device
    place = now.devices.index(device) if device in now.devices else None
    if place is None:
        raise NotVerifiedError(
            f"{device}: there is no such device in these rows; a table that was made with --member "
            f"wants the same --member here, and one that was made without wants none."
        )
    if now.rows[place].digest != steps[0].rows.digest:
        raise NotVerifiedError(
            f"{device}: its rows are others than those that the table was made of, or this home "
            f"({home.root}) is not where it was made; compute the table again."
        )
    for step in steps:
        value = float(now.columns[step.transform.indicator][place])
        if (None if value != value else value) != step.value:  # noqa: PLR0124 - NaN alone differs from itself
            raise NotVerifiedError(
                f"{device}: {step.column} comes out otherwise from the same rows; compute the "
                f"table again."
            )


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def pair(text: str) -> tuple[str, str]:
    """QUANTITY=COLUMN.

    Raises:
        InputError: It is none.
    """
    name, sign, column = text.partition("=")
    if not sign or not name.strip() or not column.strip():
        raise InputError(f"--input {text}: expected QUANTITY=COLUMN, such as running=load_share.")
    return name.strip(), column.strip()
