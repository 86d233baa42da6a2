"""A model's card: what it is, who made it, what it reaches, what it cost, what is not covered.

For people as `card.md`, for programs as `card.json`; both are in the run's folder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from federation.home import write_bytes, write_json
from federation.spending import sentences

FORMAT = 1
NOT_COVERED = (
    "choosing features or settings by looking at the same rows outside of tacit",
    "ranges and levels of the data contract, and how it parts rows, which count as public",
    "units that several members hold: they are covered once for each member",
    "side channels of a member's machine, such as how long it takes",
)


def make_card(result: Mapping[str, Any], *, contract: Mapping[str, str]) -> dict[str, Any]:
    """Put a card together.

    Args:
        result: The run's; its `privacy` holds the audit of a run with noise.
        contract: Name, title and digest of the data contract.
    """
    return {
        "format": FORMAT,
        "run": result["run"],
        "title": result["title"],
        "task": result["task"],
        "data": dict(contract),
        "members": list(result["members"]),
        "rounds": result["rounds"],
        "weights": result["model_values"],
        "metrics": dict(result["metrics"]),
        "protection": result["protection"],
        "suite": result["suite"],
        "privacy": dict(result["privacy"]),
        "audit": result["privacy"].get("audit"),
        "not_covered": list(NOT_COVERED),
        "ledger": dict(result["ledger"]),
    }


def keep_card(card: Mapping[str, Any], folder: Path) -> Path:
    """Write both forms; returns the one for people."""
    write_json(folder / "card.json", dict(card))
    write_bytes(folder / "card.md", card_text(card).encode("utf-8"))
    return folder / "card.md"


def card_text(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    data, privacy = card["data"], card["privacy"]
    lines = [
        f"# {card['title']}",
        "",
        (
            f"Run `{card['run']}`, task {card['task']}; {card['weights']:,} weights, "
            f"{card['rounds']} rounds, {len(card['members'])} members: "
            f"{', '.join(card['members'])}."
        ),
        f"Data: {data['title']} (contract `{data['name']}`, {data['digest'][:16]}..).",
        "",
        "## What it reaches",
        "",
        "On the members' test rows together"
        + (", with the noise of a private evaluation:" if _noisy(privacy) else ":"),
        "",
        "| metric | |",
        "|---|---|",
        *(f"| {name} | {value:.6g} |" for name, value in card["metrics"].items()),
        "",
        "## What it cost in privacy",
        "",
        *(f"* {sentence}" for sentence in sentences(privacy)),
    ]
    if _noisy(privacy):
        lines += [
            (
                f"* neighbours: {privacy['neighbours']}; unit: {privacy['unit']}, all its rows "
                "together"
            ),
            (
                f"* noise of a step: {privacy['multiplier']:.4g} times the clip of "
                f"{privacy['clip']:g}; each {privacy['unit']} in a step with probability "
                f"{privacy['rate']:g}"
            ),
        ]
    lines += [f"* {sentence}" for sentence in audit_sentences(card["audit"])]
    lines += [
        "",
        "Not covered: " + "; ".join(card["not_covered"]) + ".",
        "",
        (
            f"Ledger: {card['ledger']['leaves']} entries, root `{card['ledger']['root']}`. "
            "`tacit audit verify` computes all of this again."
        ),
        "",
    ]
    return "\n".join(lines)


def audit_sentences(audit: Mapping[str, Any] | None) -> Sequence[str]:
    """What an audit found, for people; nothing without one."""
    if audit is None:
        return ()
    low, high = audit["multiplier_interval"]
    return (
        (
            f"audit of this noise, {audit['canaries']:,} canaries: the steps of training have at "
            f"least epsilon {audit['epsilon_lower']:.2f} (as for a Gaussian: "
            f"{audit['epsilon_lower_gaussian']:.2f}; {audit['confidence']:.0%} confidence each), "
            f"at most {audit['epsilon_claimed']:.2f} by proof"
        ),
        (
            f"measured noise {audit['multiplier']:.4g} clips (between {low:.4g} and {high:.4g}), "
            f"claimed {audit['multiplier_claimed']:.4g}"
        ),
    )


def _noisy(privacy: Mapping[str, Any]) -> bool:
    return bool(privacy["noise"] != "none")
