"""Indicators and their lineage, for people and for programs. It stays on the node."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from clients.indicators.compute import IndicatorTable
from clients.indicators.indicator import Indicator
from clients.indicators.lineage import Step
from clients.indicators.quantity import QUANTITIES
from clients.indicators.table_file import Written
from clients.left_out import LeftOutFacts
from federation.left_out_shown import left_out_facts, left_out_line, left_out_sentence

_RISK = {"up": "higher", "down": "lower", "open": ""}


def indicators_facts(indicators: Iterable[Indicator]) -> list[dict[str, Any]]:
    """For programs: what each declares."""
    return [
        {
            "indicator": one.key,
            "unit": one.unit,
            "sentence": one.sentence,
            "sentence_zh": one.sentence_zh,
            "formula": one.formula,
            "inputs": {name: asdict(QUANTITIES[name]) for name in one.inputs},
            "low": one.low,
            "high": one.high,
            "risk": one.risk,
            "digest": one.digest,
        }
        for one in indicators
    ]


def indicators_table(indicators: Iterable[Indicator], *, chinese: bool = False) -> RenderableType:
    """For people."""
    table = Table()
    for name in ("indicator", "unit", "what it says", "needs", "riskier when"):
        table.add_column(name)
    for one in indicators:
        said = one.sentence_zh if chinese else one.sentence
        table.add_row(one.key, one.unit, said, ", ".join(one.inputs), _RISK[one.risk])
    return table


def written_facts(table: IndicatorTable, written: Written) -> dict[str, Any]:
    """For programs: what was computed, and where it lies."""
    return {
        "table": str(written.table),
        "lineage": str(written.lineage_path),
        "lineage_digest": written.lineage.digest,
        "contract_draft": str(written.draft),
        "devices": len(table.devices),
        "rows": sum(one.rows for one in table.rows),
        "indicators": [
            {"indicator": one.key, "present": int(np.isfinite(table.columns[one.key]).sum())}
            for one in table.plan.indicators
        ],
        "left_out": left_out_facts(table.left_out),
    }


def written_table(table: IndicatorTable, written: Written) -> RenderableType:
    """For people."""
    line = left_out_line(table.left_out)
    rows = sum(one.rows for one in table.rows)
    out = Table(
        title=f"{len(table.devices):,} devices from {rows:,} rows: {written.table}",
        caption=f"lineage {written.lineage.digest[:16]}... in {written.lineage_path.name}, "
        f"draft of a contract in {written.draft.name}",
    )
    for name in ("indicator", "unit", "devices with it", "lowest", "median", "highest"):
        out.add_column(name)
    for one in table.plan.indicators:
        values = table.columns[one.key]
        seen = values[~np.isnan(values)]
        shown = (
            [f"{float(x):.4g}" for x in (seen.min(), np.median(seen), seen.max())]
            if seen.size
            else ["", "", ""]
        )
        out.add_row(one.key, one.unit, f"{seen.size:,}", *shown)
    return Group(out, Text(line)) if line else out


def lineage_facts(
    steps: Sequence[Step], *, again: bool, left_out: Mapping[str, LeftOutFacts] | None
) -> dict[str, Any]:
    """For programs: the walk of each value."""
    first = steps[0]
    return {
        "device": first.device,
        "computed_again": again,
        "left_out": left_out_facts(left_out),
        "rows": first.rows.model_dump(mode="json"),
        "contract": first.contract.model_dump(mode="json"),
        "time": first.time.model_dump(mode="json"),
        "values": [
            {
                "column": step.column,
                "value": step.value,
                "known": step.known,
                "sentence": step.sentence,
                "formula": step.formula,
                **step.transform.model_dump(mode="json"),
            }
            for step in steps
        ],
    }


def lineage_tree(
    steps: Sequence[Step], *, again: bool, left_out: Mapping[str, LeftOutFacts] | None
) -> RenderableType:
    """For people."""
    first = steps[0]
    rows, time = first.rows, first.time
    tree = Tree(first.device)
    for step in steps:
        said = "absent" if step.value is None else f"{step.value:.6g} {step.transform.unit}"
        own = tree.add(f"{step.column}: {said}")
        own.add(step.sentence or "(this version of tacit does not have that transform)")
        own.add(f"transform {step.transform.indicator} {step.transform.digest[:16]}...")
        if step.formula:
            own.add(step.formula)
        for name, given in step.transform.inputs.items():
            own.add(f"{name} from column {given.column} ({given.unit or 'no unit'})")
    window = "the whole record" if time.window_h is None else f"{time.window_h:g} h"
    until = "" if rows.end is None else f" that end at {rows.end:g}"
    tree.add(f"window: {window}{until}; a reading stands for {time.hold_h:g} h at most")
    tree.add(f"contract {first.contract.name} {first.contract.digest[:16]}...")
    tree.add(
        f"{rows.rows:,} rows from {first.contract.time} {rows.first:g} to {rows.last:g}, digest "
        f"{rows.digest[:16]}..."
    )
    if left_out:
        tree.add(left_out_sentence(left_out))
    if again:
        tree.add("computed again from the rows: the same")
    return tree
