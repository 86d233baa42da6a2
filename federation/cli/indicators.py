"""`tacit data indicators` and `tacit data lineage`: from readings to indicators, and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich
from federation.cli.run import Data
from privacy.errors import InputError, NotVerifiedError

if TYPE_CHECKING:
    from clients.indicators.lineage import Lineage, Step

app = typer.Typer(no_args_is_help=True)

Contract = Annotated[Path, typer.Argument(help="The data contract (YAML) of the telemetry.")]


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
    out: Annotated[Path, typer.Option("--out", help="Table to write (.csv or .parquet).")],
    data: Data = None,
    choose: Annotated[
        str, typer.Option("--choose", help="Names, with commas; all: those whose inputs are there.")
    ] = "all",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="QUANTITY=COLUMN, where a column has another name."),
    ] = None,
    device_key: Annotated[
        str, typer.Option("--device-key", help="Columns that name a device, with commas.")
    ] = "",
    member: Annotated[
        str | None, typer.Option(help="One member, where members have folders.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Such as 30d; default: each device's whole record.")
    ] = None,
    as_of: Annotated[
        float | None,
        typer.Option("--as-of", help="End of the window, as in the time column; default: each's."),
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="How long one unit of the time column lasts, such as 8h.")
    ] = None,
    hold: Annotated[
        str | None, typer.Option(help="For how long a reading stands at most, such as 10min.")
    ] = None,
    zone: Annotated[
        float, typer.Option(min=-14, max=14, help="Hours from the time column to local time.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Compute indicators of each device; a lineage and a contract's draft are written beside."""
    from clients.contract import load_contract
    from clients.indicators.compute import compute_indicators
    from clients.indicators.plan import make_plan
    from clients.indicators.table_file import table_format, write_table
    from clients.rows_digest import rows_key
    from federation.config import data_root
    from federation.home import open_home
    from federation.indicator_tables import written_facts, written_table
    from privacy.randomness import system_bytes

    table_format(out)
    plan = make_plan(
        load_contract(contract),
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
    table = compute_indicators(
        plan, data_root(data), key=rows_key(home.root, system_bytes), member=member
    )
    written = write_table(table, out)
    if as_json:
        print_json(written_facts(table, written))
    else:
        print_rich(written_table(table, written))


def lineage(
    table: Annotated[
        Path, typer.Argument(help="A table of indicators, or of scores (tacit model predict).")
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
        str | None, typer.Option(help="One member, where members have folders.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk from an indicator or a score back to transforms, model, run, contract and rows.

    With --contract and --data the rows are read again: exit 1 if they, or a value, are others.
    """
    from federation.scoring import scores_path

    if scores_path(table).exists():
        _score_lineage(table, which, contract, data, as_json=as_json)
        return
    from clients.indicators.lineage import read_lineage, trace
    from federation.indicator_tables import lineage_facts, lineage_tree

    steps = trace(table, which, indicator=indicator)
    again = contract is not None
    if contract is not None:
        _require_same(read_lineage(table), steps, contract, data, member)
    if as_json:
        print_json(lineage_facts(steps, again=again))
    else:
        print_rich(lineage_tree(steps, again=again))


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
        require_same_score(home, steps, contract, data_root(data), key=key)
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
    from clients.rows_digest import rows_key
    from federation.config import data_root
    from federation.home import open_home
    from privacy.randomness import system_bytes

    home = open_home()
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    plan = plan_again(told, load_contract(contract))
    now = compute_indicators(
        plan, data_root(data), key=rows_key(home.root, system_bytes), member=member
    )
    device = steps[0].device
    place = now.devices.index(device) if device in now.devices else None
    if place is None or now.rows[place].digest != steps[0].rows.digest:
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
