"""`tacit model`: list, explain, predict, scorecard. No score leaves without its factors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich
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
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Table of scores to write (.csv).")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Score all rows of the contract's sources, each score with reasons and lineage."""
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
    out: Annotated[Path, typer.Option("--out", help="Model to write (.safetensors), open.")],
    as_json: AsJson = False,
) -> None:
    """Write a run's model, open, to a place that you choose; here it may lie sealed."""
    from clients.contract import load_contract
    from federation.home import open_home, write_bytes
    from federation.kept_model import model_of, read_kept_model

    if out.suffix.lower() != ".safetensors":
        raise InputError(f"{out}: is no name for a model; end it in .safetensors.")
    folder = open_home().run(run)
    kept = read_kept_model(folder)
    contract = load_contract(folder / "contract.yaml")
    write_bytes(out, model_of(folder, contract, kept.manifest.run))
    if as_json:
        print_json({"run": kept.run, "model": kept.digest, "file": str(out)})
    else:
        print_rich(f"{out}: written open; weights {kept.digest[:16]}.")


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
