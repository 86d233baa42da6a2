"""Contracts, tables and checks, for people and for programs. It stays on the node."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clients.check import CheckReport
from clients.contract import Column, DataContract
from clients.describe import DISTINCT_LIMIT, TableSummary


def contract_facts(contract: DataContract) -> dict[str, Any]:
    """For programs: the contract as read, with its digest."""
    return {"digest": contract.digest, **contract.model_dump(mode="json", by_alias=True)}


def contract_table(contract: DataContract) -> RenderableType:
    """For people."""
    table = Table(title=f"{contract.name}: {contract.title}")
    for name in ("column", "class", "role", "type", "unit", "range or levels", "transform"):
        table.add_column(name)
    for column in contract.columns:
        if column.range is not None:
            bounds = f"{column.range[0]:g} to {column.range[1]:g}"
            if column.threshold is not None:
                bounds += f", normally {column.threshold[0]:g} to {column.threshold[1]:g}"
        elif column.hash_levels is not None:
            bounds = f"{column.hash_levels} hashed levels"
        else:
            bounds = ", ".join(column.levels or ())
        shown = column.transform if column.is_numeric and column.is_input else ""
        table.add_row(
            column.name,
            column.data_class,
            _role(column),
            column.type,
            column.unit or "",
            bounds,
            shown,
        )
    protects = Text(
        f"Privacy protects: {contract.unit}. Label: {contract.label.kind}. "
        f"Digest {contract.digest[:16]}..."
    )
    return Group(table, protects)


def _role(column: Column) -> str:
    said = ["declared" if column.declared else column.indicator]
    said.append(f"monotone {column.monotone}" if column.monotone else None)
    told = ", ".join(one for one in said if one is not None)
    return f"{column.role}: {told}" if told else column.role


def summary_facts(summary: TableSummary) -> dict[str, Any]:
    """For programs."""
    facts = asdict(summary)
    facts["path"] = str(summary.path)
    for told, column in zip(facts["columns"], summary.columns, strict=True):
        # counted up to a limit: beyond it nobody knows how many
        told["distinct"] = None if column.more else column.distinct
        told["distinct_above"] = DISTINCT_LIMIT if column.more else None
    return facts


def summary_table(summary: TableSummary) -> RenderableType:
    """For people."""
    table = Table(title=f"{summary.path.name}: {summary.rows:,} rows")
    for name in ("column", "looks like", "missing", "lowest", "highest", "different", "most often"):
        table.add_column(name)
    for column in summary.columns:
        table.add_row(
            column.name,
            column.guess,
            f"{column.missing / summary.rows:.1%}" if column.missing else "",
            "" if column.low is None else f"{column.low:g}",
            "" if column.high is None else f"{column.high:g}",
            f"more than {DISTINCT_LIMIT}" if column.more else str(column.distinct),
            ", ".join(text for text, _ in column.top[:4]),
        )
    return table


def check_facts(report: CheckReport) -> dict[str, Any]:
    """For programs."""
    return {"passed": report.passed, **asdict(report)}


def check_table(report: CheckReport) -> RenderableType:
    """For people."""
    members = Table(title=f"{report.rows:,} rows, {report.units:,} units")
    for name in ("member", "training rows", "test rows", "units", "mean label"):
        members.add_column(name)
    for one in report.members:
        mean = "" if one.label_mean is None else f"{one.label_mean:.4g}"
        members.add_row(
            one.name, f"{one.train_rows:,}", f"{one.test_rows:,}", f"{one.units:,}", mean
        )
    columns = Table(title="columns that are not whole")
    for name in ("column", "missing", "out of range", "unlisted"):
        columns.add_column(name)
    shares = [
        (c.name, c.missing_share, c.out_of_range_share, c.unlisted_share)
        for c in report.columns
        if max(c.missing_share, c.out_of_range_share, c.unlisted_share) > 0
    ]
    for name, *rest in shares:
        columns.add_row(name, *(f"{share:.2%}" if share else "" for share in rest))
    notes = [Text(f"problem: {text}", style="bold red") for text in report.problems]
    notes += [Text(f"note: {text}") for text in report.warnings]
    verdict = Text(
        "The rows keep their contract." if report.passed else "The rows do not keep it.",
        style="bold",
    )
    return Group(members, *([columns] if shares else []), *notes, verdict)
