"""`tacit model`: list, explain, predict, scorecard, card, export, sync.

No score leaves without its factors.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.finite import Finite
from federation.cli.indicators import DeviceKey, Hold, Inputs, StepLength, Window, Zone, pair, words
from federation.cli.output import AsJson, print_json, print_plain, print_rich
from federation.cli.run import Data
from privacy.errors import InputError

if TYPE_CHECKING:
    from clients.additive import AdditiveModel
    from clients.reasons import Language
    from federation.cli.attributed import Asked
    from federation.home import Home
    from federation.kept_model import KeptModel

app = typer.Typer(no_args_is_help=True)

Run = Annotated[str, typer.Argument(help="A run id, a unique part of one, or: last.")]
Against = Annotated[
    str,
    typer.Option(
        "--against",
        help="Of a model of windows: what readings are measured against, members or beginning.",
    ),
]
Lang = Annotated[str, typer.Option("--lang", help="en or zh.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models of this home."""
    from federation.home import open_home
    from federation.model_list import model_list, model_table

    models = model_list(open_home())
    if as_json:
        print_json({"models": models})
    else:
        print_rich(model_table(models))


@app.command()
def explain(
    run: Run = "last",
    unit: Annotated[
        str | None,
        typer.Option("--unit", help="Explain the score of this unit's last row, or last window."),
    ] = None,
    data: Data = None,
    aim: Annotated[
        float | None,
        typer.Option(
            "--aim", click_type=Finite(), help="With --unit: what would bring it down to this?"
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="COLUMN=LOW:HIGH that may change for --aim; repeat it."),
    ] = None,
    against: Against = "members",
    at: Annotated[
        float | None,
        typer.Option(
            "--at",
            click_type=Finite(),
            help="Of a model of windows: the window that ends at this time.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw curves, or a window's heat map (.png, .svg, .pdf)."),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option("--fold", help="Of a run with folds: which model; else all together."),
    ] = None,
    lang: Lang = "en",
    as_json: AsJson = False,
) -> None:
    """Show what each column adds to a score; with --unit, the reasons of one.

    What a model leans on over all members' rows is shown where its run asked (explain: true); with
    --data, over rows at hand instead.
    """
    from clients.additive import AdditiveModel
    from clients.reasons import counterfactual
    from clients.rows_digest import rows_key
    from clients.window_model import WindowModel
    from federation.budget_plot import format_of
    from federation.cli.attributed import Asked, against_of, explain_attributed, require_of_rows
    from federation.config import data_root
    from federation.home import open_home, write_bytes
    from federation.model_pages import counterfactual_facts, score_page
    from federation.scoring import one_unit, score_facts, scored_here
    from federation.shape_plot import draw_shapes
    from privacy.randomness import system_bytes

    language = _language(lang)
    if (aim is None) != (not allow) or (aim is not None and unit is None):
        raise InputError("--aim and --allow belong together, with --unit; give all three.")
    allowed = dict(_bounds(text) for text in allow or ())
    form = None if plot is None else format_of(plot)
    home = open_home()
    asked = Asked(unit=unit, at=at, plot=plot, form=form, language=language, aim=aim, fold=fold)
    kept, asked = _kept_to_explain(home.run(run), asked, data, against)
    model = kept.explained(against_of(against))
    if not isinstance(model, AdditiveModel):
        if not isinstance(model, WindowModel):
            require_of_rows(against, at)
        explain_attributed(home, kept, model, data, asked, as_json=as_json)
        return
    require_of_rows(against, at)
    if plot is not None and form is not None:
        write_bytes(plot, draw_shapes(model, form=form))
    if unit is None:
        _show_shapes(home, kept, model, fold, as_json=as_json)
        return
    key = rows_key(home.root, system_bytes)
    with scored_here(home, kept, model, data_root(data), key=key) as found:
        scored = one_unit(found.scores, unit, kept.contract.name, sieve=found.sieve)
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


def _kept_to_explain(
    folder: Path, asked: "Asked", data: Path | None, against: str
) -> "tuple[KeptModel, Asked]":
    """The model that is asked for; of folds together, the first, as all have the same inputs.

    Raises:
        InputError: The run has no such model, or several, of which none was named, and what it
            leans on is not known of all of them together.
    """
    from federation.importance_shown import kept_importance
    from federation.kept_model import folds_of, read_kept_model, require_fold

    require_fold(folder, asked.fold)
    whole = asked.fold is None and asked.of_all and data is None and against == "members"
    folds = folds_of(folder)
    if whole and folds:
        first = read_kept_model(folder, fold=1)
        if kept_importance(folder) is not None and not first.spec.is_additive:
            return first, replace(asked, folds=folds)
    return read_kept_model(folder, fold=asked.fold), asked


def _show_shapes(
    home: "Home",
    kept: "KeptModel",
    model: "AdditiveModel",
    fold: int | None,
    *,
    as_json: bool,
) -> None:
    from federation.importance_shown import kept_importance
    from federation.model_pages import shape_facts, shape_table

    leans = kept_importance(home.runs / kept.run, fold)
    if as_json:
        print_json(shape_facts(kept, model, leans))
    else:
        print_rich(shape_table(kept, model, leans))


@app.command()
def predict(
    run: Annotated[
        str | None, typer.Argument(help="A run id, a unique part of one, or: last.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Table of scores to write (.csv).")
    ] = None,
    data: Data = None,
    every: Annotated[
        int | None,
        typer.Option(
            "--every", min=1, help="Of a model of windows: one each so many steps, not the last."
        ),
    ] = None,
    against: Against = "members",
    risk_column: Annotated[
        str | None,
        typer.Option(
            "--risk-column", help="Of a model of windows: what the column of scores is called."
        ),
    ] = None,
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
    """Score all rows, or devices, of the contract's sources, each with reasons and lineage.

    Devices that the quality gate leaves out get no score; how many, and why, is said. With
    --bundle: as tacit-edge score, with no run at hand.
    """
    if bundle is not None:
        if any(one is not None for one in (run, out, data, every, risk_column)):
            raise InputError(
                "--bundle goes without a run, --data, --out, --every and --risk-column; give "
                "--rows."
            )
        _predict_by_bundle(
            bundle, rows or ["-"], trust or [], stated, device_home, lang, as_json=as_json
        )
        return
    if any((rows, trust, stated, device_home)):
        raise InputError("--rows, --trust, --stated and --device-home belong to --bundle.")
    if run is None or out is None:
        raise InputError("Give a run and --out TABLE.csv, or --bundle FILE.")
    from clients.rows_digest import rows_key
    from clients.window_model import WindowModel
    from federation.cli.attributed import against_of, predict_windows, require_of_rows
    from federation.config import data_root
    from federation.home import open_home
    from federation.kept_model import read_kept_model
    from federation.left_out_shown import left_out_facts, left_out_line
    from federation.scoring import require_csv, scored_here, scores_path, write_scores
    from privacy.randomness import system_bytes

    require_csv(out)
    home = open_home()
    kept = read_kept_model(home.run(run))
    model = kept.explained(against_of(against))
    key = rows_key(home.root, system_bytes)
    drafted: dict[str, str] = {}
    if isinstance(model, WindowModel):
        lineage, drafted = predict_windows(
            home, kept, model, data_root(data), out, key=key, every=every, risk_column=risk_column
        )
    else:
        require_of_rows(against, every, risk_column)
        with scored_here(home, kept, model, data_root(data), key=key) as scored:
            found = list(scored.scores)
        lineage = write_scores(kept, model, found, out, left_out=scored.left_out)
    facts = {
        "run": kept.run,
        "model": kept.digest,
        "scores": len(lineage.units),
        "method": lineage.method,
        "table": str(out),
        "lineage": str(scores_path(out)),
        "digest": lineage.table,
        "left_out": left_out_facts(lineage.left_out),
        **drafted,
    }
    if as_json:
        print_json(facts)
        return
    how = "" if lineage.method == "exact" else " (attribution, not exact)"
    print_rich(
        f"{len(lineage.units):,} scores in {out}, each with up to three reasons{how}; where they "
        f"came from: {scores_path(out)}"
    )
    if drafted:
        print_rich(
            f"For the indicator failure_risk: tacit data indicators compute {drafted['contract']} "
            f"--data {out.parent}"
        )
    if lineage.left_out:
        print_rich(left_out_line(lineage.left_out))


@app.command()
def export(
    run: Run,
    out: Annotated[
        Path, typer.Option("--out", help="With --edge, the bundle (.tacit); else .safetensors.")
    ],
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
    inputs: Inputs = None,
    device_key: DeviceKey = "",
    window: Window = None,
    step: StepLength = None,
    hold: Hold = None,
    zone: Zone = 0.0,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", help="NAME=VALUE; scores from there on say so."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Who signs (PEM); default: this home's launcher.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's model to a place that you choose: open, or as an edge bundle.

    Without --edge: the weights as safetensors, open, where here they may lie sealed. With --edge:
    one signed file that scores on a device, with neither torch nor network.
    """
    from clients.contract import load_contract
    from clients.indicators.plan import make_plan
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
        if any((expires, readings, inputs, device_key, window, step, hold, zone, threshold, key)):
            raise InputError("These options are an edge bundle's; say --edge, or leave them out.")
        _export_open(run, out, as_json=as_json)
        return
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
    elif any((inputs, device_key, window, step, hold, zone)):
        raise InputError(
            "--input, --device-key, --window, --step, --hold and --zone belong to --readings."
        )
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


def _export_open(run: str, out: Path, *, as_json: bool) -> None:
    from federation.home import open_home, write_bytes
    from federation.kept_model import model_of, read_kept_model

    if out.suffix.lower() != ".safetensors":
        raise InputError(f"{out}: is no name for a model; end it in .safetensors.")
    folder = open_home().run(run)
    kept = read_kept_model(folder)
    write_bytes(out, model_of(folder, kept.contract, kept.manifest.run))
    if as_json:
        print_json({"run": kept.run, "model": kept.digest, "file": str(out)})
    else:
        print_rich(f"{out}: written open; weights {kept.digest[:16]}.")


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
    anchor: Annotated[
        float,
        typer.Option(
            "--anchor", click_type=Finite(-1e6, 1e6), help="Points that stand for --odds."
        ),
    ] = 600,
    odds: Annotated[
        float,
        typer.Option("--odds", click_type=Finite(1e-3, 1e6), help="To one, against the event."),
    ] = 20,
    double: Annotated[
        float,
        typer.Option("--double", click_type=Finite(1, 1e4), help="Points that double the odds."),
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


@app.command()
def card(
    run: Run = "last",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder, or page (.html); the JSON lies beside it."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Rows at hand: also say how stable they are.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="With --data: compare this column's levels, not members."),
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", help="Which model of a run with folds; default: 1.")
    ] = None,
    lang: Lang = "en",
    verify: Annotated[
        Path | None, typer.Option("--verify", help="Check this card's JSON, and make none.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="With --verify: who should have signed it, 64 hex digits."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model's card, a page and a signed JSON; or check one with --verify."""
    from datetime import UTC, datetime

    from federation.home import open_home

    language = _language(lang)
    home = open_home()
    if verify is not None:
        if any(one is not None for one in (out, data, group, fold)):
            raise InputError("--verify makes no card; give it alone, or with --key.")
        _verify_card(home, verify, key, as_json=as_json)
        return
    if key is not None:
        raise InputError("--key belongs to --verify; give both, or none.")
    if group is not None and data is None:
        raise InputError("--group compares rows; give --data too.")

    from federation.config import data_root
    from federation.model_card.gather import Rows, gather
    from federation.model_card.page import make_page
    from federation.model_card.signed import page_path, write_card

    folder = home.run(run)
    where = page_path(folder, out)
    rows = None if data is None else Rows(root=data_root(data), group=group)
    facts, identity = gather(home, folder, fold=fold, rows=rows, now=datetime.now(UTC))
    kept = write_card(facts, make_page(facts, language), where, identity=identity)
    if as_json:
        print_json(
            {
                "run": facts.run,
                "page": str(where),
                "card": str(kept),
                "key": identity.public.hex(),
                "facts": facts.model_dump(mode="json"),
            }
        )
    else:
        print_rich(f"The card of {facts.run}: {where}; signed facts: {kept}")


def _verify_card(home: "Home", path: Path, key: str | None, *, as_json: bool) -> None:
    from federation.model_card.signed import known_keys, read_card, require_key

    known = known_keys(home) if key is None else {require_key(key): "the key that was given"}
    found = read_card(path, known)
    whose = known[found.key]
    if as_json:
        print_json(
            {
                "verified": True,
                "run": found.card.run,
                "model": found.card.lineage.model,
                "key": found.key,
                "signed_by": whose,
            }
        )
    else:
        print_rich(
            f"{path}: is, bit for bit, what {whose} signed ({found.key}); the card of "
            f"{found.card.run}, made {found.card.made}."
        )


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
