"""A bundle that is not what a trusted key signed, or whose numbers lie, scores nothing."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import bundles

from clients.scoring.bundle_file import (
    MOST_BYTES,
    look_at_bundle,
    open_bundle,
    read_bundle_file,
    require_contract,
    require_current,
)
from clients.scoring.trust import key_fingerprint, read_trust
from privacy.errors import InputError, NotVerifiedError
from privacy.suites import SUITES

TRUST = frozenset({bundles.TRUSTED})


def test_a_bundle_opens_to_what_was_signed() -> None:
    data = bundles.signed(bundles.bundle())
    opened = open_bundle(data, TRUST)
    assert opened.signer == bundles.TRUSTED
    assert opened.bundle.plain() == bundles.bundle().plain()
    assert bundles.signed(opened.bundle) == data


@pytest.mark.parametrize("suite", ["gm", "hybrid"])
def test_other_suites_sign_as_well(suite: str) -> None:
    from clients.scoring.bundle_file import bundle_bytes
    from privacy.randomness import system_bytes

    if SUITES[suite].missing():
        pytest.skip("this machine has no such suite")
    signer = SUITES[suite].create_signer(system_bytes)
    data = bundle_bytes(bundles.bundle(), signer, SUITES[suite])
    trusted = key_fingerprint(suite, signer.public)
    assert open_bundle(data, frozenset({trusted})).suite == suite
    with pytest.raises(NotVerifiedError, match="not trusted"):
        open_bundle(data, frozenset({key_fingerprint("intl", signer.public)}))


def test_a_flip_anywhere_is_refused() -> None:
    """Every byte, one bit of it, and every byte with its case or last bit changed."""
    data = bundles.signed(bundles.bundle())
    refused = 0
    for place in range(len(data)):
        for mask in (0x01, 0x20):
            changed = bytearray(data)
            changed[place] ^= mask
            with pytest.raises(NotVerifiedError):
                open_bundle(bytes(changed), TRUST)
            refused += 1
    assert refused == 2 * len(data)


def test_a_cut_or_longer_file_is_refused() -> None:
    data = bundles.signed(bundles.bundle())
    for end in (0, 1, 100, data.index(b"\n"), data.index(b"\n") + 1, len(data) - 1):
        with pytest.raises(NotVerifiedError):
            open_bundle(data[:end], TRUST)
    for more in (b"\n", b" ", b"{}\n", data):
        with pytest.raises(NotVerifiedError):
            open_bundle(data + more, TRUST)


def test_the_key_in_the_file_is_never_trusted_by_itself() -> None:
    data = bundles.signed(bundles.bundle(), bundles.STRANGER)
    with pytest.raises(NotVerifiedError, match="not trusted"):
        open_bundle(data, TRUST)
    with pytest.raises(NotVerifiedError, match="no key is trusted"):
        open_bundle(data, frozenset())
    assert look_at_bundle(data).signer != bundles.TRUSTED


def test_a_trusted_key_beside_a_strangers_signature_is_refused() -> None:
    body = bundles.signed(bundles.bundle()).splitlines()[1]
    data = bundles.signed_body(body, bundles.STRANGER, key=bundles.SIGNER.public.hex())
    with pytest.raises(NotVerifiedError, match="signature does not hold"):
        open_bundle(data, TRUST)


def test_a_signature_of_another_purpose_is_refused() -> None:
    from clients.scoring.bundle_file import _digest

    body = bundles.signed(bundles.bundle()).splitlines()[1]
    other = bundles.SIGNER.sign("edge-log", _digest(body)).hex()
    with pytest.raises(NotVerifiedError, match="signature does not hold"):
        open_bundle(bundles.signed_body(body, signature=other), TRUST)


@pytest.mark.parametrize(
    "head", [{"suite": "none"}, {"format": 2}, {"key": "00"}, {"signature": "AB" * 64}, {"x": 1}]
)
def test_a_head_that_is_none_is_refused(head: dict[str, Any]) -> None:
    body = bundles.signed(bundles.bundle()).splitlines()[1]
    with pytest.raises(NotVerifiedError):
        open_bundle(bundles.signed_body(body, **head), TRUST)


def test_expired_by_this_machines_clock_is_refused() -> None:
    bundle = bundles.bundle(expires_s=bundles.NOW_S)
    require_current(bundle, bundles.NOW_S - 1)
    with pytest.raises(NotVerifiedError, match="expired on 2027-01-15 08:00:00 UTC, and this mach"):
        require_current(bundle, bundles.NOW_S)
    with pytest.raises(NotVerifiedError, match="set the clock"):
        require_current(bundle, bundle.made_s - 1)
    require_current(bundles.bundle(expires_s=None), 2**40)


def test_another_contract_is_refused() -> None:
    bundle = bundles.bundle()
    require_contract(bundle, "loans")
    require_contract(bundle, bundles.CONTRACT)
    for wanted in ("policies", "d" * 64, bundles.CONTRACT[:63]):
        with pytest.raises(NotVerifiedError, match="not for"):
            require_contract(bundle, wanted)


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(plain: Any) -> None:  # noqa: ANN401 - JSON
        for key in path[:-1]:
            plain = plain[key]
        plain[path[-1]] = to

    return change


CURVE = ("model", "curves", 0)
LIES = {
    "values of another shape": _set(*CURVE, "values", to=[0.0, 1.0]),
    "knots that go back": _set(*CURVE, "knots", to=[0.0, 0.7, 0.5]),
    "knots that are level": _set(*CURVE, "knots", to=[0.0, 0.0, 1.0]),
    "knots that end early": _set(*CURVE, "knots", to=[0.0, 0.5, 0.9]),
    "one knot": _set(*CURVE, "knots", to=[0.0]),
    "too many knots": _set(*CURVE, "knots", to=[place / 20_000 for place in range(20_001)]),
    "too many steps": _set(*CURVE, "steps", to=[0] * 70_000),
    "a text for a number": _set(*CURVE, "missing", to="0.25"),
    "a truth for a number": _set(*CURVE, "missing", to=True),
    "a number beyond all": _set(*CURVE, "missing", to=1e305),
    "nothing for a number": _set(*CURVE, "missing", to=None),
    "a curve too few": lambda plain: plain["model"]["curves"].pop(),
    "a curve too many": lambda plain: plain["model"]["curves"].append({"values": [0.0]}),
    "a level too few": _set("model", "curves", 1, "values", to=[0.5, -0.5]),
    "a category without levels": _set("inputs", 1, "levels", to=[]),
    "a level twice": _set("inputs", 1, "levels", to=["a", "a"]),
    "levels of a size that nobody has": _set("inputs", 1, "hash_levels", to=2**40),
    "bounds that fall": _set("inputs", 0, "bounds", to=[1.0, 0.0]),
    "an unknown transform": _set("inputs", 0, "transform", to="exec"),
    "an input twice": _set("inputs", 1, "name", to="load"),
    "no inputs": _set("inputs", to=[]),
    "an unknown kind": _set("model", "kind", to="pickle"),
    "an unknown link": _set("model", "link", to="none"),
    "a scale of 0": _set("model", "scale", to=0.0),
    "an unknown key": _set("extra", to=1),
    "an unknown key within": _set(*CURVE, "extra", to=1),
    "a key too few": lambda plain: plain.pop("card"),
    "another format": _set("format", to=2),
    "a text without end": _set("task", to="x" * 3000),
    "a digest that is none": _set("contract", "digest", to="C" * 64),
    "a list for an object": _set("card", to=[]),
    "too many thresholds": _set("thresholds", to={f"t{place}": 0.5 for place in range(51)}),
    "an end before all time": _set("expires_s", to=-1),
    "an end that no clock has": _set("expires_s", to=2**60),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_numbers_that_lie_are_refused_though_a_trusted_key_signed_them(
    lie: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(NotVerifiedError) as found:
        open_bundle(bundles.lying(lie), TRUST)
    assert "\n" not in str(found.value)


PLAN_LIES = {
    "a transform that is computed otherwise": _set(
        "readings", "indicators", 0, "digest", to="0" * 64
    ),
    "a transform that is not here": _set("readings", "indicators", 0, "key", to="magic@1"),
    "a quantity too few": lambda plain: plain["readings"]["quantities"].pop(),
    "a quantity twice": lambda plain: plain["readings"]["quantities"].append(
        plain["readings"]["quantities"][0]
    ),
    "a unit of something else": _set("readings", "quantities", 1, "unit", to="km/h"),
    "a window without end": _set("readings", "window_h", to=1e12),
    "no time step": _set("readings", "step_h", to=0.0),
    "nobody": _set("readings", "units", to=[]),
    "nobody whose model it is": _set("units", to=[]),
    "an indicator that the model does not read": _set("inputs", 0, "indicator", to=None),
}


@pytest.mark.parametrize("lie", PLAN_LIES.values(), ids=PLAN_LIES.keys())
def test_a_plan_that_lies_is_refused(lie: Callable[[dict[str, Any]], object]) -> None:
    value = bundles.readings_bundle("load_share@1")
    honest = open_bundle(bundles.lying(lambda plain: plain, value), TRUST)
    assert honest.bundle.readings is not None
    with pytest.raises(NotVerifiedError):
        open_bundle(bundles.lying(lie, value), TRUST)


@pytest.mark.parametrize(
    "body",
    [
        b'{"base":NaN}',
        b'{"base":Infinity}',
        b'{"base":1e999}',
        b"[" * 100_000,
        b'{"a":1,"a":2}',
        b'{"a": 1}',
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"n":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_canonical_json_is_refused_though_signed(body: bytes) -> None:
    with pytest.raises(NotVerifiedError):
        open_bundle(bundles.signed_body(body), TRUST)


def test_nothing_of_an_unsigned_body_is_read() -> None:
    """Ten million numbers that nobody signed take no memory beyond the file's own bytes."""
    body = b"[" + b"0," * 4_000_000 + b"0]"
    data = bundles.signed_body(body, bundles.STRANGER)
    tracemalloc.start()
    with pytest.raises(NotVerifiedError, match="not trusted"):
        open_bundle(data, TRUST)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data)


def test_a_file_larger_than_any_bundle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.tacit"
    with path.open("wb") as file:
        file.truncate(10 * MOST_BYTES)
    with pytest.raises(NotVerifiedError, match="larger than any bundle"):
        read_bundle_file(path)
    fifo = tmp_path / "fifo.tacit"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path(os.devnull)):
        with pytest.raises(InputError, match="is no file"):
            read_bundle_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_bundle_file(tmp_path / "absent.tacit")


def test_trust_is_a_whole_fingerprint_or_a_file_of_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    spelled = "-".join(bundles.TRUSTED[at : at + 8] for at in range(0, 64, 8)).upper()
    path.write_text(f"# the bank's\n{spelled}  # since June\n\n")
    assert read_trust([str(path)]) == read_trust([spelled]) == {bundles.TRUSTED}
    with pytest.raises(InputError, match="neither a fingerprint"):
        read_trust([bundles.TRUSTED[:32]])
    path.write_text("not a key\n")
    with pytest.raises(InputError, match="no fingerprint"):
        read_trust([str(path)])


def test_a_lie_is_told_by_its_key() -> None:
    data = bundles.lying(_set(*CURVE, "values", to=[0.0]))
    with pytest.raises(NotVerifiedError, match=r"bundle\.model\.curves\[0\]\.values is no list"):
        open_bundle(data, TRUST)
    assert json.loads(data.splitlines()[1])["model"]["curves"][0]["values"] == [0.0]
