"""A bundle for people and for programs; numpy alone, as on a device."""

from typing import Any

from clients.scoring.bundle_file import OpenedBundle, clock_text, require_current
from federation.edge.printable import printable
from privacy.errors import NotVerifiedError


def bundle_facts(opened: OpenedBundle, *, trusted: bool, now_s: int) -> dict[str, Any]:
    """What is in a bundle, who signed it, until when it may be used."""
    bundle, card = opened.bundle, opened.bundle.card
    current = True
    try:
        require_current(bundle, now_s)
    except NotVerifiedError:
        current = False
    plan = bundle.readings
    return {
        "digest": opened.digest,
        "suite": opened.suite,
        "signer": opened.signer,
        "trusted": trusted,
        "made": clock_text(bundle.made_s),
        "expires": None if bundle.expires_s is None else clock_text(bundle.expires_s),
        "current": current,
        "task": bundle.task,
        "contract": {
            "name": bundle.contract.name,
            "digest": bundle.contract.digest,
            "title": bundle.contract.title,
        },
        "unit": bundle.contract.unit,
        "model": {
            "kind": bundle.scorer.kind,
            "label": bundle.scorer.link,
            "base": bundle.scorer.base,
            "reference": bundle.scorer.reference,
            "weights": card.weights,
        },
        "inputs": [
            {"column": one.name, "indicator": one.indicator, "declared": one.declared}
            for one in bundle.inputs
        ],
        "readings": None
        if plan is None
        else {
            "contract": plan.name,
            "columns": [one.header for one in plan.quantities],
            "indicators": [one.key for one in plan.indicators],
            "window_h": plan.window_h,
            "hold_h": plan.hold_h,
            "thresholds": {
                one.header: list(one.threshold)
                for one in plan.quantities
                if one.threshold is not None
            },
        },
        "stated": [one.name for one in bundle.stated] if plan is not None else [],
        "thresholds": dict(bundle.thresholds),
        "card": {
            "run": card.run,
            "manifest": card.manifest,
            "members": card.members,
            "metrics": dict(card.metrics),
            "privacy": list(card.privacy),
        },
    }


def bundle_text(facts: dict[str, Any]) -> str:
    """The same for people."""
    card, contract = facts["card"], facts["contract"]
    word = "trusted here" if facts["trusted"] else "NOT trusted here"
    until = facts["expires"] or "no end"
    now = "" if facts["current"] else "  (NOT by this machine's clock)"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in card["metrics"].items())
    lines = [
        f"bundle    {facts['digest']}",
        f"signed    by {facts['signer']} ({facts['suite']}), {word}",
        f"valid     from {facts['made']} until {until}{now}",
        f"task      {facts['task']}, a score for each {facts['unit']}",
        f"contract  {contract['name']} {contract['digest']}",
        (
            f"model     {facts['model']['kind']}, weights {facts['model']['weights'][:16]}.., "
            f"base {facts['model']['base']:+.4f}"
        ),
    ]
    for one in facts["inputs"]:
        how = one["indicator"] or ("declared" if one["declared"] else "as rows have it")
        lines.append(f"  input   {one['column']}: {how}")
    readings = facts["readings"]
    if readings is not None:
        window = "whole record" if readings["window_h"] is None else f"{readings['window_h']:g} h"
        lines.append(
            f"readings  {readings['contract']}: {', '.join(readings['columns'])}; window {window}, "
            f"a reading stands for {readings['hold_h']:g} h at most"
        )
        lines += [
            f"  normal  {name}: {low:g} to {high:g}"
            for name, (low, high) in readings["thresholds"].items()
        ]
    lines += [f"threshold {name}: {value:g}" for name, value in facts["thresholds"].items()]
    lines.append(f"card      run {card['run']}, {card['members']} members; {metrics}")
    lines += [f"  privacy {one}" for one in card["privacy"]]
    return "\n".join(printable(line) for line in lines)
