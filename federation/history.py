"""Runs that were: the list, and one run's page."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.home import Home, read_json
from federation.ledger_place import open_store
from federation.record import count_rounds, read_rounds, read_state
from federation.report import NAMES, plot_curve, size, sparkline, summary, watched
from privacy.errors import TacitError
from privacy.ledger.store import entries_of
from privacy.manifest import Manifest
from privacy.secure_sum.schemes import scheme_of
from privacy.suites import suite_of


def history(home: Home) -> list[dict[str, Any]]:
    """Every run of a home, oldest first."""
    return [_brief(home, run) for run in home.run_ids()]


def _brief(home: Home, run: str) -> dict[str, Any]:
    folder = home.runs / run
    try:
        state = read_state(folder)
    except TacitError:
        state = {"state": "interrupted"}
    brief: dict[str, Any] = {
        "run": run,
        "task": state.get("task"),
        "name": state.get("name"),
        "state": _state(home, state),
        "rounds": count_rounds(folder),
    }
    if "reason" in state:
        brief["reason"] = state["reason"]
    if state["state"] == "finished":
        result = read_json(folder / "result.json")
        brief["headline"] = result["headline"]
        brief["metric"] = result["metrics"].get(result["headline"])
        brief["members"] = len(result["members"])
    return brief


def _state(home: Home, state: dict[str, Any]) -> str:
    """A run that says it is running in a home that nobody holds was cut off."""
    if state["state"] == "running" and not home.is_busy():
        return "interrupted"
    return str(state["state"])


def history_table(home: Home, runs: list[dict[str, Any]]) -> RenderableType:
    """For people."""
    if not runs:
        return f"No runs in {home.root} yet; start one with: tacit run launch CONFIG --local"
    table = Table(title=f"runs in {home.root}")
    for name in ("run", "task", "state", "rounds", "result"):
        table.add_column(name, overflow="fold")
    for one in runs:
        result = f"{one['headline']} {one['metric']:.4g}" if one.get("metric") is not None else ""
        table.add_row(
            one["run"],
            one["task"] or "",
            one["state"],
            str(one["rounds"]),
            result or one.get("reason", ""),
        )
    return table


def run_record(home: Home, run: str) -> dict[str, Any]:
    """All that is kept of a run, as one object; draws the curve if it is not there yet."""
    folder = home.run(run)
    brief = _brief(home, folder.name)
    rounds = read_rounds(folder)
    record: dict[str, Any] = {**brief, "folder": str(folder), "history": rounds}
    if brief["state"] == "finished":
        record["result"] = read_json(folder / "result.json")
    record["sums"] = _sums(home, folder.name)
    headline = _headline(record)
    if headline:
        curve = folder / "curve.png"
        if curve.exists() or plot_curve(rounds, headline, curve):
            record["curve"] = str(curve)
    return record


def _sums(home: Home, run: str) -> dict[str, Any]:
    """What the ledger holds of how a run's sums were protected; the folds' sums together."""
    found: dict[str, Any] = {"opened": 0, "payload_bytes": 0, "signatures": 0, "keys": []}
    for entry in entries_of(open_store(home.ledger_place).leaves()):
        body: dict[str, Any] = dict(entry.body)
        named = str(body.get("run", ""))
        if named != run and not named.startswith(f"{run}."):
            continue
        if entry.kind == "run.started":
            found["protection"] = body["protection"]
            found["suite"] = Manifest.from_bytes(body["document"].encode()).suite
        elif entry.kind == "keys.agreed":
            found["keys"].append(
                {"fingerprint": body["fingerprint"], "public_bytes": body["public_bytes"]}
            )
        elif entry.kind == "sum.opened":
            found["opened"] += 1
            found["payload_bytes"] += body["payload_bytes"]
            found["signatures"] += len(body["signatures"])
    return found


def sums_sentences(sums: dict[str, Any]) -> list[str]:
    """The same for people: what was hidden from whom, and what shows it."""
    if "protection" not in sums:
        return []
    scheme = scheme_of(sums["protection"])
    held = "ciphertext" if scheme.encrypted else "numbers"
    opened, sent = sums["opened"], size(sums["payload_bytes"])
    lines = [f"sums: {scheme.name}. {scheme.sentence}"]
    suite = suite_of(sums.get("suite", "intl"))
    lines.append(f"suite: {suite.id}. {suite.sentence}")
    lines.append(
        f"opened: {opened} sums, {sent} of {held}, each over members who signed it "
        f"({sums['signatures']} signatures; check them with: tacit audit verify)"
    )
    for key in sums["keys"]:
        if scheme.encrypted:
            lines.append(
                f"key: {key['fingerprint'][:16]}.., made by a member for this run, sealed to each "
                f"other one (HPKE); the coordinator was given {key['public_bytes']} bytes of "
                "parameters: no secret, public, Galois or relinearisation key"
            )
        else:
            lines.append(f"key: {key['fingerprint'][:16]}.. of the sums' tags, for this run alone")
    return lines


def _headline(record: dict[str, Any]) -> str | None:
    if "result" in record:
        return str(record["result"]["headline"])
    for one in record["history"]:
        for name in NAMES:
            if name in one["metrics"]:
                return name
    return None


def run_page(record: dict[str, Any]) -> RenderableType:
    """For people."""
    parts: list[RenderableType] = [
        Text(f"{record['run']}: {record['state']}, {record['rounds']} rounds", style="bold")
    ]
    if "reason" in record:
        parts.append(Text(record["reason"]))
    if "result" in record:
        parts.append(summary(record["result"]))
    headline = _headline(record)
    points = watched(record["history"], headline) if headline else []
    if headline and points:
        values = [value for _, value in points]
        parts.append(
            Text(
                f"{NAMES.get(headline, headline)} on validation rows, round {points[0][0]} to "
                f"{points[-1][0]}: {values[0]:.4g} {sparkline(values)} {values[-1]:.4g}"
            )
        )
    parts += [Text(line) for line in sums_sentences(record.get("sums", {}))]
    if "curve" in record:
        parts.append(Text(f"curve: {record['curve']}"))
    return Group(*parts)
