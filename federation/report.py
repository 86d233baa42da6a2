"""What people read: tables, a sparkline, a curve, and the page at the end of a demo."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from federation.card import audit_sentences
from federation.home import write_bytes
from federation.importance_shown import importance_sentence
from federation.spending import sentences

BARS: Final = "▁▂▃▄▅▆▇█"
HIGHER_IS_BETTER: Final = frozenset({"auc", "average_precision", "r2"})
NAMES: Final[Mapping[str, str]] = {
    "rmse_cap": "error (RMSE, cycles)",
    "rmse": "error (RMSE)",
    "auc": "ranking (AUC)",
    "deviance_x100": "Poisson deviance x100",
}
SENT: Final[Mapping[str, str]] = {
    "masked": "masked numbers",
    "sealed": "masked and encrypted numbers",
    "ckks": "encrypted numbers (which any member could help to read)",
    "clear": "UNPROTECTED numbers",
}
LEARNT: Final[Mapping[str, str]] = {
    "failure": "when machines will fail",
    "claims": "how often claims will come",
    "credit": "who will be unable to pay",
}


def sparkline(values: Sequence[float]) -> str:
    """One character a value, from the lowest to the highest."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)


def watched(rounds: Sequence[Mapping[str, Any]], headline: str) -> list[tuple[int, float]]:
    """(round, headline metric) of the rounds that were evaluated; the first fold's, with folds."""
    first = rounds[0].get("fold") if rounds else None
    return [
        (int(one["round"]), float(one["metrics"][headline]))
        for one in rounds
        if one.get("fold") == first and headline in one["metrics"]
    ]


def plot_curve(rounds: Sequence[Mapping[str, Any]], headline: str, path: Path) -> Path | None:
    """Draw the learning curve; None where no round was evaluated."""
    points = watched(rounds, headline)
    if not points:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([index for index, _ in points], [value for _, value in points], marker=".")
    axes.set_xlabel("round")
    axes.set_ylabel(f"{NAMES.get(headline, headline)}, members' validation rows")
    axes.grid(visible=True, alpha=0.3)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write_bytes(path, drawn.getvalue())
    return path


def gains(result: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """Member, metric alone, metric federated, each on the member's own test rows."""
    headline = result["headline"]
    alone = result.get("baselines", {}).get("local_only", {}).get("by_member", {})
    return [
        (
            member,
            alone.get(member, {}).get(headline),
            result["by_member"].get(member, {}).get(headline),
        )
        for member in result["members"]
    ]


def member_table(result: Mapping[str, Any]) -> Table:
    """Each member alone and federated, and all together."""
    headline = result["headline"]
    better = "higher" if headline in HIGHER_IS_BETTER else "lower"
    personal = result.get("personal")
    baselines = result.get("baselines")
    table = Table(title=f"{NAMES.get(headline, headline)}, on test rows; {better} is better")
    table.add_column("member")
    for name, shown in (
        ("alone", baselines),
        ("federated", True),
        ("fine-tuned", personal),
        ("gain", baselines),
    ):
        if shown:
            table.add_column(name, justify="right")

    def row(name: str, alone: float | None, federated: float | None, tuned: float | None) -> None:
        cells = [name]
        cells += [_number(alone)] if baselines else []
        cells += [_number(federated)]
        cells += [_number(tuned)] if personal else []
        cells += [_gain(alone, federated, headline)] if baselines else []
        table.add_row(*cells)

    tuned = personal["by_member"] if personal else {}
    for member, alone, federated in gains(result):
        row(member, alone, federated, tuned.get(member, {}).get(headline))
    table.add_section()
    row(
        "all members",
        baselines["local_only"]["metrics"].get(headline) if baselines else None,
        result["metrics"].get(headline),
        personal["metrics"].get(headline) if personal else None,
    )
    captions: list[str] = []
    noise = result["metrics"].get(f"{headline}_noise")
    if noise is not None:
        captions.append(
            f"all members: the noise of a private evaluation moves it by {noise:.2g} (one "
            "standard deviation); members' own figures are exact and stay with them."
        )
    if baselines:
        pooled = baselines["pooled"]["metrics"].get(headline)
        captions.append(
            f"pooled, which nobody may do: {_number(pooled)}. "
            "'alone' over all members: each row is scored by its own member's model."
        )
    table.caption = " ".join(captions) or None
    return table


def summary(result: Mapping[str, Any]) -> RenderableType:
    """The end of a launch."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("run", result["run"])
    facts.add_row(
        "what left a member",
        f"{size(result['bytes_per_round']['up_per_member'])} of {_sums(result)} a round, "
        f"{size(result['bytes_sent_per_member'])} in all",
    )
    facts.add_row("privacy", "\n".join(sentences(result["privacy"])))
    if "importance" in result:
        facts.add_row("leans on", importance_sentence(result["importance"]))
    if result["absences"]:
        away = ", ".join(f"{name} ({count})" for name, count in result["absences"].items())
        facts.add_row("away", f"sums that closed without a member's part: {away}")
    if result["rounds_undone"]:
        facts.add_row("undone", f"{result['rounds_undone']} rounds that made validation worse")
    facts.add_row(
        "time",
        f"{result['seconds']['federated']:.0f} s federated ({result['seconds']['per_round']:.2f} s "
        f"a round), {result['seconds']['total']:.0f} s in all",
    )
    for sentence in audit_sentences(result["privacy"].get("audit")):
        facts.add_row("audit", sentence)
    facts.add_row("model", result["model"])
    facts.add_row("card", result["card"])
    facts.add_row(
        "ledger", f"{result['ledger']['leaves']} entries, root {result['ledger']['root'][:16]}..."
    )
    return Group(member_table(result), facts)


def manager_page(results: Sequence[Mapping[str, Any]], verdict: str) -> RenderableType:
    """What was trained, by whom, what each gained, what left each member, and the verdict."""
    parts: list[RenderableType] = []
    for result in results:
        cannot = result.get("baselines", {}).get("local_only", {}).get("cannot", {})
        won = [
            member
            for member, alone, federated in gains(result)
            if (alone is None and member in cannot and federated is not None)
            or (alone is not None and _is_better(federated, alone, result["headline"]))
        ]
        known = [m for m, alone, _ in gains(result) if alone is not None]
        text = Text.assemble(
            (f"{result['title']}\n", "bold"),
            f"{len(result['members'])} members learnt {LEARNT[result['task']]} together in "
            f"{result['rounds']} rounds, without showing a row to anyone. ",
            f"{len(won)} of {len(result['members'])} members are better off than alone"
            + ("" if len(known) == len(result["members"]) else " (or could not learn alone)")
            + ".\n",
            f"What left each member: {size(result['bytes_sent_per_member'])} of {_sums(result)}; "
            "only sums over members who signed them were ever opened.\n",
            "\n".join(sentences(result["privacy"])) + "\n",
        )
        parts += [text, member_table(result), Text("")]
    parts.append(Text(verdict, style="bold green"))
    return Panel(Group(*parts), title="tacit", padding=(1, 2))


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":  # noqa: PLR2004 - decimal units
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _sums(result: Mapping[str, Any]) -> str:
    return SENT[result["protection"]]


def _is_better(value: float | None, other: float, headline: str) -> bool:
    if value is None:
        return False
    return value > other if headline in HIGHER_IS_BETTER else value < other


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3f}"


def _gain(alone: float | None, federated: float | None, headline: str) -> str:
    if alone is None or federated is None:
        return "-"
    gain = federated - alone if headline in HIGHER_IS_BETTER else alone - federated
    return f"{gain:+.3f}" if abs(gain) < 1 else f"{gain:+.2f}"
