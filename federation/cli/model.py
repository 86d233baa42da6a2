"""`tacit model`: list, explain, predict, scorecard, export, sync.

No score leaves without its factors.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import AsJson, print_json, print_plain, print_rich
from federation.cli.run import Data
from privacy.errors import InputError

if TYPE_CHECKING:
    from clients.reasons import Language

app = typer.Typer(no_args_is_help=True)

Run = Annotated[str, typer.Argument(help="A run id, a unique part of one, or: last.")]
Lang = Annotated[str, typer.Option("--lang", help="en or zh.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models of this home."""
    from federation.home import open_home
    from federation.model_pages import model_list, model_table

    models = model_list(open_home())
    if as_json:
        print_json({"models": models})
    else:
        print_rich(model_table(models))


@app.command()
def explain(
    run: Run = "last",
    unit: Annotated[
        str | None, typer.Option("--unit", help="Explain the score of this unit's last row.")
    ] = None,
    data: Data = None,
    aim: Annotated[
        float | None, typer.Option("--aim", help="With --unit: what would bring it down to this?")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="COLUMN=LOW:HIGH that may change for --aim; repeat it."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw all curves to this file (.png, .svg, .pdf).")
    ] = None,
    lang: Lang = "en",
    as_json: AsJson = False,
) -> None:
    """Show what each column adds to a score; with --unit, the reasons of one."""
    from clients.reasons import counterfactual
    from clients.rows_digest import rows_key
    from federation.budget_plot import format_of
    from federation.config import data_root
    from federation.home import open_home, write_bytes
    from federation.kept_model import read_kept_model
    from federation.model_pages import counterfactual_facts, score_page, shape_facts, shape_table
    from federation.scoring import one_unit, score_facts, score_rows
    from federation.shape_plot import draw_shapes
    from privacy.randomness import system_bytes

    language = _language(lang)
    if (aim is None) != (not allow) or (aim is not None and unit is None):
        raise InputError("--aim and --allow belong together, with --unit; give all three.")
    allowed = dict(_bounds(text) for text in allow or ())
    form = None if plot is None else format_of(plot)
    home = open_home()
    kept = read_kept_model(home.run(run))
    model = kept.additive()
    if plot is not None and form is not None:
        write_bytes(plot, draw_shapes(model, form=form))
    if unit is None:
        if as_json:
            print_json(shape_facts(kept, model))
        else:
            print_rich(shape_table(kept, model))
        return
    key = rows_key(home.root, system_bytes)
    scored = one_unit(score_rows(kept, model, data_root(data), key=key), unit, kept.contract.name)
    what_if = None
    if aim is not None:
        what_if = counterfactual(model, scored.score, aim=aim, allowed=allowed)
    if as_json:
        facts = score_facts(model, scored)
        if what_if is not None:
            facts["counterfactual"] = counterfactual_facts(what_if)
        print_json({"run": kept.run, "model": kept.digest, **facts})
    else:
        print_rich(score_page(model, scored.score, language, what_if))


@app.command()
def predict(
    run: Annotated[
        str | None, typer.Argument(help="A run id, a unique part of one, or: last.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Table of scores to write (.csv).")
    ] = None,
    data: Data = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Score by this edge bundle, as tacit-edge does.")
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", help="With --bundle: files or folders; default: standard input."),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option("--trust", help="With --bundle: a signer's fingerprint, or a file of them."),
    ] = None,
    stated: Annotated[
        Path | None,
        typer.Option("--stated", help="With --bundle: table of inputs that no reading gives."),
    ] = None,
    device_home: Annotated[
        Path | None, typer.Option("--device-home", help="With --bundle: where its log is kept.")
    ] = None,
    lang: Lang = "en",
    as_json: AsJson = False,
) -> None:
    """Score all rows of the contract's sources, each score with reasons and lineage.

    With --bundle: as tacit-edge score, with no run at hand.
    """
    if bundle is not None:
        if run is not None or out is not None or data is not None:
            raise InputError("--bundle goes without a run, --data and --out; give --rows.")
        _predict_by_bundle(
            bundle, rows or ["-"], trust or [], stated, device_home, lang, as_json=as_json
        )
        return
    if run is None or out is None:
        raise InputError("Give a run and --out TABLE.csv, or --bundle FILE.")
    from clients.rows_digest import rows_key
    from federation.config import data_root
    from federation.home import open_home
    from federation.kept_model import read_kept_model
    from federation.scoring import score_rows, scores_path, write_scores
    from privacy.randomness import system_bytes

    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: is no name for a table of scores; end it in .csv.")
    home = open_home()
    kept = read_kept_model(home.run(run))
    model = kept.additive()
    key = rows_key(home.root, system_bytes)
    found = list(score_rows(kept, model, data_root(data), key=key))
    lineage = write_scores(kept, model, found, out)
    facts = {
        "run": kept.run,
        "model": kept.digest,
        "scores": len(found),
        "table": str(out),
        "lineage": str(scores_path(out)),
        "digest": lineage.table,
    }
    if as_json:
        print_json(facts)
    else:
        print_rich(
            f"{len(found):,} scores in {out}, each with up to three reasons; where they came from: "
            f"{scores_path(out)}"
        )


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Bundle to write (.tacit).")],
    edge: Annotated[
        bool, typer.Option("--edge", help="As one signed file that scores offline (tacit-edge).")
    ] = False,
    expires: Annotated[
        str | None, typer.Option("--expires", help="Days from now, or the last day: 2027-12-31.")
    ] = None,
    readings: Annotated[
        Path | None,
        typer.Option("--readings", help="Contract of readings that its indicators are made of."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="QUANTITY=COLUMN, where a column has another name."),
    ] = None,
    device_key: Annotated[
        str, typer.Option("--device-key", help="Columns that name a device, with commas.")
    ] = "",
    window: Annotated[
        str | None, typer.Option(help="Such as 30d; default: each device's whole record.")
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
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", help="NAME=VALUE; scores from there on say so."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Who signs (PEM); default: this home's launcher.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as one signed file that scores on a device, with neither torch nor network."""
    from clients.contract import load_contract
    from clients.indicators.plan import make_plan
    from federation.cli.indicators import pair, words
    from federation.edge.export import (
        expiry_s,
        make_bundle,
        short_card,
        signing_identity,
        thresholds_of,
        wanted_indicators,
        write_bundle,
    )
    from federation.edge.scoring import machine_clock
    from federation.home import open_home
    from federation.kept_model import read_kept_model

    if not edge:
        raise InputError("Say --edge: a bundle for devices is the one form that there is.")
    now_s = machine_clock()
    expires_s = None if expires is None else expiry_s(expires, now_s)
    levels = thresholds_of(threshold or [])
    home = open_home()
    folder = home.run(run)
    kept = read_kept_model(folder)
    plan = None
    if readings is not None:
        plan = make_plan(
            load_contract(readings),
            wanted_indicators(kept),
            inputs=dict(pair(text) for text in inputs or ()),
            device_key=words(device_key),
            step=step,
            hold=hold,
            window=window,
            zone_h=zone,
        )
    elif inputs or device_key or window or step or hold:
        raise InputError("--input, --device-key, --window, --step and --hold belong to --readings.")
    bundle = make_bundle(
        kept,
        short_card(kept, folder),
        made_s=now_s,
        expires_s=expires_s,
        plan=plan,
        thresholds=levels,
    )
    done = write_bundle(home, bundle, signing_identity(home, key), out)
    if as_json:
        print_json(
            {
                "run": kept.run,
                "bundle": str(done.path),
                "digest": done.opened.digest,
                "bytes": done.size,
                "fingerprint": done.opened.signer,
                "expires_s": expires_s,
                "contract": kept.contract.digest,
            }
        )
    else:
        print_plain(
            f"{done.path}: {done.size:,} bytes, bundle {done.opened.digest[:16]}..\n"
            f"Devices have to trust its signer, once, by a way other than the file's own:\n"
            f"tacit-edge trust {done.opened.signer}"
        )


@app.command()
def sync(
    log: Annotated[Path, typer.Argument(help="A device's scores.log, or a copy of it.")],
    device: Annotated[
        str | None,
        typer.Option("--device", help="The device's fingerprint (tacit-edge log); the first time."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify what a device scored, and take it into this home; again is no harm."""
    from federation.edge.sync import sync_log, synced_facts
    from federation.home import open_home

    done = sync_log(open_home(), log, device)
    if as_json:
        print_json(synced_facts(done))
    else:
        print_plain(
            f"{log} holds: {done.head.lines:,} lines, {done.new:,} of them new, with "
            f"{done.scores:,} scores by {len(done.bundles)} bundles.\n"
            f"device {done.device}, head {done.head.digest[:16]}.."
        )


@app.command()
def scorecard(
    run: Run = "last",
    anchor: Annotated[float, typer.Option("--anchor", help="Points that stand for --odds.")] = 600,
    odds: Annotated[
        float, typer.Option("--odds", min=1e-3, max=1e6, help="To one, against the event.")
    ] = 20,
    double: Annotated[
        float, typer.Option("--double", min=1, max=1e4, help="Points that double the odds.")
    ] = 40,
    as_json: AsJson = False,
) -> None:
    """Show an additive model of chances as whole points."""
    from federation.home import open_home
    from federation.kept_model import read_kept_model
    from federation.model_pages import scorecard_table
    from federation.scorecard import make_scorecard, scorecard_facts

    kept = read_kept_model(open_home().run(run))
    card = make_scorecard(kept.additive(), anchor=anchor, odds=odds, double=double)
    if as_json:
        print_json({"run": kept.run, "model": kept.digest, **scorecard_facts(card)})
    else:
        print_rich(scorecard_table(card))


def _predict_by_bundle(
    bundle: Path,
    rows: list[str],
    trust: list[str],
    stated: Path | None,
    device_home: Path | None,
    lang: str,
    *,
    as_json: bool,
) -> None:
    from federation.edge.main import edge_home, printer
    from federation.edge.scoring import EdgeJob, score_all

    job = EdgeJob(
        bundle=bundle,
        places=tuple(rows),
        home=edge_home(device_home),
        trust=tuple(trust),
        stated=stated,
    )
    score_all(job, printer(as_json=as_json, language=_language(lang)))


def _language(text: str) -> "Language":
    if text == "en":
        return "en"
    if text == "zh":
        return "zh"
    raise InputError(f"--lang {text}: choose en or zh.")


def _bounds(text: str) -> tuple[str, tuple[float, float]]:
    name, _, bounds = text.rpartition("=")
    low, _, high = bounds.partition(":")
    try:
        return name, (float(low), float(high))
    except ValueError:
        raise InputError(f"--allow {text}: expected COLUMN=LOW:HIGH, such as idle=0:0.3.") from None
