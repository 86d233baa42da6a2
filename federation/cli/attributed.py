"""`tacit model explain` and `predict` of models that are no sum of curves: attributed scores."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.attributed import AttributedModel
from clients.left_out import Sieve
from clients.reasons import Language
from clients.rows_digest import rows_key
from clients.window_model import Against, WindowModel
from federation.budget_plot import Form
from federation.cli.output import print_json, print_rich
from federation.config import data_root as root_of
from federation.gate_here import left_out_here
from federation.heat_plot import draw_heat
from federation.home import Home, write_bytes
from federation.importance_shown import ImportanceFacts, kept_importance
from federation.kept_model import KeptModel
from federation.model_pages import (
    importance_facts,
    importance_page,
    score_page,
    weights_facts,
    weights_table,
    window_page,
)
from federation.scoring import ScoreLineage, one_unit, score_facts, scored_here
from federation.window_scoring import (
    ScoredWindow,
    draft_path,
    one_window,
    score_windows,
    value_column,
    window_facts,
    write_window_scores,
)
from privacy.errors import InputError
from privacy.randomness import system_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clients.reasons import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `explain` is asked for.

    Attributes:
        unit: Whose score; None: how much each input matters.
        at: The window that ends at this time.
        plot: Where to draw.
        form: The drawing's.
        language: Of reasons.
        aim: What a counterfactual should reach.
        fold: Whose model it is, from 1; None: that of a run without folds, or `folds` says more.
        folds: How many folds' models it is about together; 0: it is about one model.
    """

    unit: str | None
    at: float | None
    plot: Path | None
    form: Form | None
    language: Language
    aim: float | None
    fold: int | None = None
    folds: int = 0

    @property
    def of_all(self) -> bool:
        """Whether it is about the model as a whole, and nothing else was asked for."""
        return (self.unit, self.at, self.plot, self.aim) == (None, None, None, None)


def explain_attributed(
    home: Home,
    kept: KeptModel,
    model: AttributedModel | WindowModel,
    data: Path | None,
    asked: Asked,
    *,
    as_json: bool,
) -> None:
    """Show how much each input matters, or the reasons of one score.

    Where the run summed what its model leans on, that is shown, unless rows at hand are asked for;
    then no row is read.

    Args:
        home: Where the run lies.
        kept: The model, as it was kept.
        model: As it is explained.
        data: Where rows lie; None: at the usual place.
        asked: What for.
        as_json: For programs.

    Raises:
        InputError: Something was asked for that such a model has not.
    """
    if asked.aim is not None:
        raise InputError("--aim: what would help is known of sums of curves alone; leave it out.")
    leans = None
    if data is None and asked.of_all:
        leans = kept_importance(home.runs / kept.run, asked.fold)
    if leans is not None and not (isinstance(model, WindowModel) and model.against != "members"):
        _show_importance(kept, model, leans, asked.folds, as_json=as_json)
        return
    rows_root = root_of(data)
    key = rows_key(home.root, system_bytes)
    if isinstance(model, WindowModel):
        with left_out_here(home, kept.contract, rows_root, member=None, key=key) as out:
            sieve = None if out is None else Sieve(out)
            _explain_window(kept, model, rows_root, asked, key, sieve, as_json=as_json)
        return
    if asked.plot is not None:
        raise InputError("--plot: a model with hidden layers has no curves to draw; leave it out.")
    if asked.at is not None:
        raise InputError("--at is for models of windows; leave it out.")
    with scored_here(home, kept, model, rows_root, key=key) as found:
        if asked.unit is None:
            _show_weights(kept, model, (one.score for one in found.scores), as_json=as_json)
            return
        scored = one_unit(found.scores, asked.unit, kept.contract.name, sieve=found.sieve)
    if as_json:
        print_json({"run": kept.run, "model": kept.digest, **score_facts(model, scored)})
    else:
        print_rich(score_page(model, scored.score, asked.language, None))


def _show_importance(
    kept: KeptModel,
    model: AttributedModel | WindowModel,
    leans: ImportanceFacts,
    folds: int,
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(importance_facts(kept, model, leans, folds=folds))
    else:
        print_rich(importance_page(kept, model, leans, folds=folds))


def predict_windows(
    home: Home,
    kept: KeptModel,
    model: WindowModel,
    data_root: Path,
    out: Path,
    *,
    key: bytes,
    every: int | None,
    risk_column: str | None,
) -> tuple[ScoreLineage, dict[str, Any]]:
    """Score devices into a table.

    Returns:
        The lineage, and what else was written.
    """
    value_column(model, risk_column)  # before hours of scoring
    with ExitStack() as look:
        gated = look.enter_context(
            left_out_here(home, kept.contract, data_root, member=None, key=key)
        )
        sieve = None if gated is None else Sieve(gated)

        def found() -> "Iterator[ScoredWindow]":
            yield from score_windows(model, data_root, key=key, every=every, sieve=sieve)
            look.close()  # files that changed stop the command before a table is written

        lineage = write_window_scores(
            kept, model, found(), out, every=every, risk_column=risk_column, sieve=sieve
        )
    drafted = {"contract": str(draft_path(out))} if model.target.kind == "binary" else {}
    return lineage, drafted


def against_of(text: str) -> Against:
    """What readings are measured against.

    Raises:
        InputError: It is neither.
    """
    if text == "members":
        return "members"
    if text == "beginning":
        return "beginning"
    raise InputError(f"--against {text}: choose members or beginning.")


def require_of_rows(against: str, *others: object) -> None:
    """Return if nothing was asked for that models of windows alone have.

    Raises:
        InputError: It was.
    """
    if against != "members" or any(one is not None for one in others):
        raise InputError(
            "--against beginning, --at, --every and --risk-column are for models of windows; leave "
            "them out."
        )


def _explain_window(
    kept: KeptModel,
    model: WindowModel,
    data_root: Path,
    asked: Asked,
    key: bytes,
    sieve: Sieve | None,
    *,
    as_json: bool,
) -> None:
    if asked.unit is None:
        if asked.at is not None or asked.plot is not None:
            raise InputError("--at and --plot are about one device's window; give --unit too.")
        found = score_windows(model, data_root, key=key, sieve=sieve)
        _show_weights(kept, model, (one.window.score for one in found), as_json=as_json)
        return
    scored = one_window(model, data_root, asked.unit, key=key, at=asked.at, sieve=sieve)
    if asked.plot is not None and asked.form is not None:
        write_bytes(asked.plot, draw_heat(model, scored.window, form=asked.form))
    if as_json:
        print_json({"run": kept.run, "model": kept.digest, **window_facts(model, scored)})
    else:
        print_rich(window_page(model, scored.window, asked.language))


def _show_weights(
    kept: KeptModel,
    model: AttributedModel | WindowModel,
    found: "Iterator[Score]",
    *,
    as_json: bool,
) -> None:
    facts = weights_facts(kept, model, found)
    if as_json:
        print_json(facts)
    else:
        print_rich(weights_table(model, facts))
