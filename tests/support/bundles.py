"""Small edge bundles, and how to sign what is wrong with them. For tests only."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clients.indicators.quantity import QUANTITIES
from clients.indicators.registry import INDICATORS
from clients.scoring.additive import AdditiveScorer, LevelTable, NumberCurve
from clients.scoring.bundle import Bundle, ContractName, ShortCard
from clients.scoring.bundle_file import SIGNING_DOMAIN, bundle_bytes
from clients.scoring.bundle_file import _digest as digest_of
from clients.scoring.column import InputColumn
from clients.scoring.readings_plan import QuantityColumn, ReadingsPlan, UnitColumn
from clients.scoring.trust import key_fingerprint
from clients.scoring.words import ColumnWords
from privacy.canonical import canonical_json
from privacy.identity import Identity
from privacy.suites import SUITES

SIGNER = Identity.create(lambda count: b"s" * count)
STRANGER = Identity.create(lambda count: b"x" * count)
TRUSTED = key_fingerprint("intl", SIGNER.public)
NOW_S = 1_800_000_000
CONTRACT = "c" * 64
ROWS = "id,load,code\n1,0.25,a\n2,,b\n3,9,unheard of\n"


def _input(name: str, **changes: Any) -> InputColumn:  # noqa: ANN401 - any field
    told: dict[str, Any] = {
        "name": name,
        "header": name,
        "kind": "number",
        "bounds": (0.0, 1.0),
        "transform": "standard",
        "levels": (),
        "hash_levels": 0,
        "indicator": None,
        "declared": False,
        "words": ColumnWords(name=name, unit="1", says={"en": "", "zh": ""}),
    }
    return InputColumn(**(told | changes))


def bundle(**changes: Any) -> Bundle:  # noqa: ANN401 - any field
    """Two inputs: a number with a curve and steps, and a category."""
    inputs = (_input("load"), _input("code", kind="category", levels=("a", "b")))
    curve = NumberCurve(
        knots=np.array([0.0, 0.5, 1.0]),
        values=np.array([-1.0, 0.0, 2.0]),
        steps=np.array([0.0, 0.5]),
        missing=0.25,
    )
    scorer = AdditiveScorer(
        inputs=inputs,
        curves=(curve, LevelTable(values=np.array([0.5, -0.5, 0.0]))),
        base=-0.5,
        link="binary",
        scale=1.0,
        reference="average",
    )
    told: dict[str, Any] = {
        "task": "credit",
        "made_s": NOW_S - 100,
        "expires_s": NOW_S + 1000,
        "contract": ContractName(name="loans", digest=CONTRACT, unit="borrower", title="Loans"),
        "units": (UnitColumn(header="id", type="integer"),),
        "missing": ("", "NA"),
        "inputs": inputs,
        "scorer": scorer,
        "readings": None,
        "thresholds": {"review": 0.5},
        "card": ShortCard(
            run="run-1",
            manifest="d" * 64,
            weights="e" * 64,
            members=3,
            metrics={"auc": 0.75},
            privacy=("No noise.",),
        ),
    }
    return Bundle(**(told | changes))


def readings_bundle(
    *keys: str, window_h: float | None = None, hold_h: float = 1.0, declared: bool = False
) -> Bundle:
    """A model of these indicators, and one declared input if asked for, with a plan."""
    indicators = tuple(INDICATORS[key] for key in keys)
    inputs = tuple(
        _input(one.name, indicator=one.key, bounds=(one.low, 1000.0)) for one in indicators
    )
    if declared:
        inputs = (*inputs, _input("age", declared=True, bounds=(0.0, 100.0)))
    curve = NumberCurve(
        knots=np.array([0.0, 1.0]), values=np.array([0.0, 1.0]), steps=np.zeros(0), missing=-0.5
    )
    needed = {name for one in indicators for name in one.inputs}
    unit = (UnitColumn(header="device", type="text"),)
    return bundle(
        units=unit,
        inputs=inputs,
        scorer=AdditiveScorer(
            inputs=inputs,
            curves=tuple(curve for _ in inputs),
            base=0.0,
            link="value",
            scale=1.0,
            reference="range",
        ),
        readings=ReadingsPlan(
            contract="f" * 64,
            name="readings",
            time="time",
            units=unit,
            quantities=tuple(
                QuantityColumn(
                    quantity=name,
                    header=name,
                    unit=one.unit or "1",
                    bounds=(-1000.0, 1e6),
                    threshold=(0.0, 0.9) if name == "load_share" else None,
                )
                for name, one in QUANTITIES.items()
                if name in needed
            ),
            indicators=indicators,
            missing=("",),
            step_h=1.0,
            hold_h=hold_h,
            window_h=window_h,
            zone_h=0.0,
        ),
    )


def signed(value: Bundle, signer: Identity = SIGNER) -> bytes:
    """The file's bytes."""
    return bundle_bytes(value, signer, SUITES["intl"])


def written(folder: Path, value: Bundle, signer: Identity = SIGNER) -> Path:
    """The file."""
    path = folder / "model.tacit"
    path.write_bytes(signed(value, signer))
    return path


def lying(
    change: Callable[[dict[str, Any]], object],
    value: Bundle | None = None,
    *,
    raw: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """A file that a trusted key signed, whose plain form was changed first."""
    plain: dict[str, Any] = json.loads(canonical_json((value or bundle()).plain()))
    change(plain)
    return signed_body(raw(canonical_json(plain)))


def signed_body(body: bytes, signer: Identity = SIGNER, **head: Any) -> bytes:  # noqa: ANN401
    """A file with this second line; `head` replaces keys of the first."""
    digest = digest_of(body)
    told: Mapping[str, Any] = {
        "format": 1,
        "digest": digest.hex(),
        "suite": "intl",
        "key": signer.public.hex(),
        "signature": signer.sign(SIGNING_DOMAIN, digest).hex(),
        **head,
    }
    return canonical_json(dict(told)) + b"\n" + body + b"\n"
