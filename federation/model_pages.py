"""Models, curves, factors and counterfactuals, as tables for people and objects for programs."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clients.additive import AdditiveModel
from clients.attributed import AttributedModel
from clients.reasons import Counterfactual, Explained, Language, Score, sentence
from clients.window_model import WindowModel
from clients.window_reasons import WindowScore, window_sentence
from federation.importance_shown import ImportanceFacts, importance_table
from federation.kept_model import KeptModel
from federation.scorecard import Scorecard

MOST_SCORES: Final = 2000  # that tell how much each input matters
NOT_EXACT: Final = (
    "attribution, not exact: what the model says less what it says of the reference, dealt out "
    "along the straight line between them (integrated gradients)"
)
NOT_EXACT_ZH: Final = (
    "以上为归因结果 (积分梯度法): 模型输出与参照输出之差沿直线路径分摊所得, 并非精确分解。"
)


def shape_facts(
    kept: KeptModel, model: AdditiveModel, leans: ImportanceFacts | None = None
) -> dict[str, Any]:
    """A whole model for programs, and what it leans on over test rows where the run asked."""
    return {
        "run": kept.run,
        "model": kept.digest,
        "task": kept.manifest.task,
        "contract": kept.contract.name,
        "base": model.base,
        "reference": model.reference,
        "columns": [
            {
                "column": one.column.name,
                "unit": one.column.unit,
                "indicator": one.column.indicator,
                "weight": one.weight,
                "least": one.least,
                "most": one.most,
                "monotone": one.column.monotone,
            }
            for one in sorted(model.curves, key=lambda one: -one.weight)
        ],
        **({} if leans is None else {"importance": leans.model_dump(mode="json")}),
    }


def shape_table(
    kept: KeptModel, model: AdditiveModel, leans: ImportanceFacts | None = None
) -> RenderableType:
    """The same for people."""
    kind = model.target.kind
    scale = {"binary": "log-odds", "count": "log rate"}.get(kind, "the label's unit")
    table = Table(title=f"{kept.run}: what each column adds, in {scale}")
    table.add_column("column", overflow="fold")
    table.add_column("matters", justify="right")
    table.add_column("least", justify="right")
    table.add_column("most", justify="right")
    held = any(one.column.monotone for one in model.curves)
    if held:
        table.add_column("held", justify="center")
    arrows = {"up": "↑", "down": "↓", None: ""}
    for one in sorted(model.curves, key=lambda one: -one.weight):
        amounts = (one.weight, one.least, one.most)
        cells = (f"{amounts[0]:.3f}", *(f"{amount:+.3f}" for amount in amounts[1:]))
        table.add_row(one.column.name, *cells, *([arrows[one.column.monotone]] if held else []))
    against = {
        "average": "the mean over the members' training rows, known from sums",
        "range": "the middle over its range, as a run with noise opens no sum of it",
    }[model.reference]
    note = (
        f"Amounts are against {against}; base {model.base:+.4f}, and amounts add up to the score."
    )
    if held:
        note += " A curve with an arrow never turns the other way; its weights were checked."
    if leans is None:
        return Group(table, Text(note))
    leaning = importance_table(
        leans, run=kept.run, scale=scale, protection=kept.manifest.protection
    )
    return Group(table, Text(note), leaning)


def weights_facts(
    kept: KeptModel, model: AttributedModel | WindowModel, found: Iterator[Score]
) -> dict[str, Any]:
    """How much each input matters to the scores of the first rows at hand, for programs."""
    scores = list(islice(found, MOST_SCORES))
    size: dict[str, float] = {}
    for score in scores:
        for factor in score.factors:
            size.setdefault(factor.column, 0.0)
            size[factor.column] += abs(factor.amount) / len(scores)
    against = model.against if isinstance(model, WindowModel) else model.reference
    return {
        "run": kept.run,
        "model": kept.digest,
        "task": kept.manifest.task,
        "contract": kept.contract.name,
        "method": "attribution",
        "reference": against,
        "scores": len(scores),
        "columns": [
            {"column": name, "weight": weight}
            for name, weight in sorted(size.items(), key=lambda one: -one[1])
        ],
    }


def weights_table(model: AttributedModel | WindowModel, facts: dict[str, Any]) -> RenderableType:
    """The same for people."""
    table = Table(title=f"{facts['run']}: how much each input moves a score, in {_scale(model)}")
    table.add_column("input", overflow="fold")
    table.add_column("matters", justify="right")
    for one in facts["columns"]:
        table.add_row(one["column"], f"{one['weight']:.3f}")
    return Group(
        table,
        Text(
            f"Mean absolute amounts over {facts['scores']:,} scores of rows at hand, against "
            f"{_against(model)}; {NOT_EXACT}."
        ),
    )


def importance_facts(
    kept: KeptModel,
    model: AttributedModel | WindowModel,
    leans: ImportanceFacts,
    *,
    folds: int = 0,
) -> dict[str, Any]:
    """How much each input matters over all members' test rows, for programs.

    Args:
        kept: The model; of several folds together, one of theirs.
        model: As it is explained.
        leans: What was opened.
        folds: How many models the figures are means over; 0: they are of this one.
    """
    return {
        "run": kept.run,
        **({"folds": folds} if folds else {"model": kept.digest}),
        "task": kept.manifest.task,
        "contract": kept.contract.name,
        "method": "attribution",
        "reference": model.against if isinstance(model, WindowModel) else model.reference,
        "importance": leans.model_dump(mode="json"),
    }


def importance_page(
    kept: KeptModel,
    model: AttributedModel | WindowModel,
    leans: ImportanceFacts,
    *,
    folds: int = 0,
) -> RenderableType:
    """The same for people."""
    run = f"{kept.run}, {folds} folds together" if folds else kept.run
    return Group(
        importance_table(
            leans,
            run=run,
            scale=_scale(model),
            protection=kept.manifest.protection,
            folds=folds,
        ),
        Text(f"Against {_against(model)}; {NOT_EXACT}."),
    )


def window_page(model: WindowModel, window: WindowScore, language: Language) -> RenderableType:
    """One device's score for people: sensors and reasons."""
    score = window.score
    table = Table(title=f"{score.unit} at {window.time:.10g}: {score.value:.4g}")
    for name in ("sensor", "mean reading", "adds"):
        table.add_column(name, justify="left" if name == "sensor" else "right", overflow="fold")
    for one in sorted(score.factors, key=lambda one: -abs(one.amount)):
        shown = "" if one.value is None else f"{one.value:.6g}"
        table.add_row(one.column, shown, f"{one.amount:+.3f}")
    table.add_section()
    table.add_row("base", "", f"{score.base:+.3f}")
    table.add_row("together", "", f"{score.output:+.3f}")
    reasons = [
        Text(f"{place}. {window_sentence(model, window, one, language)}")
        for place, one in enumerate(score.reasons, start=1)
    ]
    note = f"In {_scale(model)}, against {_against(model)}; {NOT_EXACT}."
    return Group(table, *reasons, Text(NOT_EXACT_ZH if language == "zh" else note))


def _scale(model: AttributedModel | WindowModel) -> str:
    time = model.contract.time_column
    if model.target.kind == "life" and time is not None and time.unit is not None:
        return f"units of {time.unit}"
    scales = {"binary": "log-odds", "count": "log rate"}
    return scales.get(model.target.kind, "the label's unit")


def _against(model: AttributedModel | WindowModel) -> str:
    if isinstance(model, AttributedModel):
        return {
            "average": "the members' average row, known from sums",
            "range": "the middle over each column's range",
        }[model.reference]
    if model.against == "beginning":
        return "the device's own first window"
    if model.features.window.baseline == "own":
        return "a device that is as it was at first"
    return "the members' mean, known from sums"


def score_page(
    model: Explained, score: Score, language: Language, what_if: Counterfactual | None
) -> RenderableType:
    """One score for people: factors, reasons, and what would help."""
    table = Table(title=f"{score.unit}: {score.value:.4g}")
    for name, how in (("column", "left"), ("value", "right"), ("adds", "right")):
        table.add_column(name, justify="right" if how == "right" else "left", overflow="fold")
    for one in sorted(score.factors, key=lambda one: -abs(one.amount)):
        value = one.value
        shown = "" if value is None else value if isinstance(value, str) else f"{value:.6g}"
        table.add_row(one.column, shown, f"{one.amount:+.3f}")
    table.add_section()
    table.add_row("base", "", f"{score.base:+.3f}")
    table.add_row("together", "", f"{score.output:+.3f}")
    parts: list[RenderableType] = [table]
    parts += [
        Text(f"{place}. {sentence(model, one, language)}")
        for place, one in enumerate(score.reasons, start=1)
    ]
    if model.method == "attribution":
        parts.append(Text(NOT_EXACT_ZH if language == "zh" else f"This is {NOT_EXACT}."))
    if what_if is not None:
        parts.append(Text(counterfactual_sentence(what_if, language)))
    return Group(*parts)


def counterfactual_facts(what_if: Counterfactual) -> dict[str, Any]:
    """For programs."""
    return {
        "reached": what_if.reached,
        "value": what_if.value,
        "output": what_if.output,
        "changes": [
            {
                "column": one.column,
                "before": one.before,
                "after": one.after,
                "amount": one.amount,
            }
            for one in what_if.changes
        ],
    }


def counterfactual_sentence(what_if: Counterfactual, language: Language) -> str:
    """For people."""
    if language == "zh":
        changes = ", ".join(
            f"{one.column} 由 {_number(one.before, '缺失')} 变为 {one.after:.6g}"
            for one in what_if.changes
        )
        if not what_if.changes and what_if.reached:
            return "已经达到目标。"
        if not what_if.changes:
            return "在允许的变动范围内, 没有可以改善的项目。"
        reached = "可以达到目标" if what_if.reached else "仍未达到目标"
        return f"若 {changes}, 结果为 {what_if.value:.4g}, {reached}。"
    changes = ", ".join(
        f"{one.column} {one.after:.6g} instead of {_number(one.before, 'missing')}"
        for one in what_if.changes
    )
    if not what_if.changes and what_if.reached:
        return "The aim is met already."
    if not what_if.changes:
        return "Nothing that may change would help."
    reached = "which meets the aim" if what_if.reached else "which does not meet the aim"
    return f"With {changes} it would be {what_if.value:.4g}, {reached}."


def _number(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.6g}"


def scorecard_table(card: Scorecard) -> RenderableType:
    """For people."""
    table = Table(title=f"scorecard; everybody starts with {card.start}")
    table.add_column("column", overflow="fold")
    table.add_column("values", overflow="fold")
    table.add_column("points", justify="right")
    table.add_column("share of rows", justify="right")
    last = ""
    for one in card.bands:
        if last and one.column != last:
            table.add_section()
        share = "" if one.share is None else f"{one.share:.1%}"
        table.add_row(one.column if one.column != last else "", one.said, str(one.points), share)
        last = one.column
    note = (
        f"{card.anchor:g} points are odds of {card.odds:g} to one against the event; every "
        f"{card.double:g} points double them. Bands and rounding move a score by at most "
        f"{card.off_by:.1f} points."
    )
    return Group(table, Text(note))
