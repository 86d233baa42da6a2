import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import ProtocolError
from privacy.receipt import FORMAT, Receipt

ROOT = Path(__file__).parents[3]
UPDATE = Receipt(
    kind="update",
    unit="borrower",
    cohort="training",
    mechanism="gaussian",
    share=0.92,
    clip=0.5,
    sampling="poisson",
    rate=0.05,
    steps=1,
    shares=10,
    values=2545,
    grid=0.0,
    purpose="run 7f, update of round 3",
)
STRICT = replace(UPDATE, mechanism="discrete_gaussian", grid=2.0**-16)
COUNTS = Receipt(
    kind="statistics",
    unit="device",
    cohort="all",
    mechanism="none",
    share=0.0,
    clip=0.0,
    sampling="none",
    rate=1.0,
    steps=1,
    shares=12,
    values=40,
    grid=0.0,
    purpose="run 7f, overview",
)
RECEIPTS = {"gaussian": UPDATE, "discrete": STRICT, "none": COUNTS}
# What was once written is read for ever with this meaning; a change here needs a new format.
WRITTEN = {
    "format": 1,
    "kind": "update",
    "unit": "borrower",
    "cohort": "training",
    "mechanism": "gaussian",
    "share": 0.92,
    "clip": 0.5,
    "sampling": "poisson",
    "rate": 0.05,
    "steps": 1,
    "shares": 10,
    "values": 2545,
    "grid": 0.0,
    "purpose": "run 7f, update of round 3",
}
WRONG_TEXT: tuple[object, ...] = (
    None,
    1,
    0.5,
    True,
    "",
    "\n",
    "a\0",
    "x" * 513,
    b"update",
    ["a"],
    {},
)
WRONG_NAME: tuple[object, ...] = (*WRONG_TEXT, "Update", "updates", "gaussian ", "laplace")
WRONG_COUNT: tuple[object, ...] = (None, True, False, 0, -1, 1.0, "1", 2**53, [1], math.nan)
WRONG_NUMBER: tuple[object, ...] = (
    *(None, True, False, 1, 0, "0.5", [0.5], -0.5, -1e-300, 1e-16, 1e16),
    *(math.nan, math.inf, -math.inf),
)
WRONG: Mapping[str, tuple[object, ...]] = {
    "format": (None, True, 0, 2, -1, 1.0, "1", [1]),
    "kind": WRONG_NAME,
    "unit": (*WRONG_TEXT, "x" * 65),
    "cohort": WRONG_NAME,
    "mechanism": WRONG_NAME,
    "share": WRONG_NUMBER,
    "clip": WRONG_NUMBER,
    "sampling": WRONG_NAME,
    "rate": (*WRONG_NUMBER, 0.0, 1.0000001, 2.0),
    "steps": WRONG_COUNT,
    "shares": WRONG_COUNT,
    "values": WRONG_COUNT,
    "grid": WRONG_NUMBER,
    "purpose": WRONG_TEXT,
}
MUTATIONS = [
    pytest.param(key, value, id=f"{key}-{value!r:.20}-{index}")
    for key, values in WRONG.items()
    for index, value in enumerate(values)
]
CONTRADICTIONS: Mapping[str, tuple[Receipt, Mapping[str, object], str]] = {
    "noise without a mechanism": (COUNTS, {"share": 1.0}, "share"),
    "a mechanism without noise": (UPDATE, {"share": 0.0}, "share"),
    "a mechanism taken away": (UPDATE, {"mechanism": "none"}, "share"),
    "noise relative to nothing": (UPDATE, {"clip": 0.0}, "clip"),
    "continuous noise on a grid": (UPDATE, {"grid": 0.5}, "grid"),
    "no mechanism on a grid": (COUNTS, {"grid": 0.5}, "grid"),
    "discrete noise without a grid": (STRICT, {"grid": 0.0}, "grid"),
    "a rate without sampling": (UPDATE, {"sampling": "none"}, "rate"),
}


@pytest.mark.parametrize("receipt", RECEIPTS.values(), ids=list(RECEIPTS))
def test_a_receipt_survives_the_way_through_canonical_bytes(receipt: Receipt) -> None:
    data = canonical_json(receipt.to_json())
    again = Receipt.from_json(parse_canonical(data))
    assert again == receipt
    assert canonical_json(again.to_json()) == data


def test_what_was_written_keeps_its_meaning() -> None:
    assert FORMAT == 1
    assert UPDATE.to_json() == WRITTEN
    assert Receipt.from_json(WRITTEN) == UPDATE


def test_a_receipt_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        UPDATE.share = 9.0  # type: ignore[misc]


@pytest.mark.parametrize(("key", "value"), MUTATIONS)
def test_a_wrong_value_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=key):
        Receipt.from_json({**WRITTEN, key: value})


def test_there_are_hundreds_of_wrong_values() -> None:
    assert len(MUTATIONS) > 150


@pytest.mark.parametrize("key", WRITTEN)
def test_a_missing_key_is_refused_by_its_name(key: str) -> None:
    body = {name: value for name, value in WRITTEN.items() if name != key}
    with pytest.raises(ProtocolError, match=key):
        Receipt.from_json(body)


@pytest.mark.parametrize("key", ["epsilon", "Share", "", 7, None])
def test_an_unknown_key_is_refused(key: object) -> None:
    body: dict[object, object] = dict(WRITTEN.items())
    body[key] = 1.0
    with pytest.raises(ProtocolError, match="unknown key"):
        Receipt.from_json(body)


@pytest.mark.parametrize("value", [None, [], "{}", 1, list(WRITTEN.items())])
def test_only_a_table_is_read(value: object) -> None:
    with pytest.raises(ProtocolError, match="table"):
        Receipt.from_json(value)


@pytest.mark.parametrize(
    ("receipt", "change", "key"), CONTRADICTIONS.values(), ids=list(CONTRADICTIONS)
)
def test_contradictions_are_refused_on_making_and_on_reading(
    receipt: Receipt, change: Mapping[str, object], key: str
) -> None:
    with pytest.raises(ValueError, match=key):
        replace(receipt, **change)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=key):
        Receipt.from_json({**receipt.to_json(), **change})


@pytest.mark.parametrize("key", ["share", "clip", "rate", "grid"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True])
def test_a_receipt_cannot_be_made_with_a_wrong_number(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        replace(UPDATE, **{key: value})  # type: ignore[arg-type]


def test_numbers_of_the_programmer_become_plain_floats() -> None:
    receipt = replace(UPDATE, share=np.float64(2.0), clip=1)
    assert type(receipt.share) is float
    assert type(receipt.clip) is float
    assert Receipt.from_json(parse_canonical(canonical_json(receipt.to_json()))) == receipt


def test_reading_and_enforcing_need_the_standard_library_alone() -> None:
    names = ["receipt", *(f"accounting.{name}" for name in ("event", "rdp", "filter", "pld"))]
    names.append("accounting.calibrate")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        + "".join(f"import privacy.{name}\n" for name in names)
        + "from privacy.accounting import event, filter\n"
        "filter.admit(filter.Terms(1.0, 1e-5, 18), [], [event.Event(9.0, 0.1, 3)])\n"
        "top = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(top - set(sys.stdlib_module_names) - {'privacy', '__main__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    # Site hooks of the environment may load parts of it; none of these may be among them.
    heavy = {"numpy", "scipy", "dp_accounting", "torch", "opacus", "pydantic"}
    assert not [name for name in heavy if repr(name) in done.stdout], done.stdout
